"""What `--trace` shows, and what it keeps to itself."""

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.core.broker import Broker
from headrace.core.log import MemorySink, make_logger
from headrace.core.options import ServerOptions
from headrace.core.transport.memory import MemoryClient
from headrace.tools.trace import LINE_SIZE_MAX, LINES_MAX, traced


class Traced:
    """A client whose wire is traced."""

    def __init__(self) -> None:
        self.scheduler = VirtualScheduler()
        self.sink = MemorySink()
        log = make_logger(self.sink, self.scheduler, is_trace=True, with_time=False, process_id=7)
        broker = Broker(ServerOptions(), scheduler=self.scheduler, chance=Chance(1), log=log)
        self.client = MemoryClient(self.scheduler)
        accept = traced(broker.accept, log)
        self.client.transport.receiver = accept(self.client.transport, "10.0.0.1", 5)
        self.scheduler.settle()

    def shown(self, data: bytes) -> list[str]:
        """Send, and give the new lines of the log."""
        before = len(self.sink.lines)
        self.client.send(data)
        self.scheduler.settle()
        return [line.removeprefix("[7] [TRC] ").rstrip("\n") for line in self.sink.lines[before:]]


def test_both_directions_are_shown_line_by_line() -> None:
    world = Traced()
    assert "[TRC] 10.0.0.1:5 - cid:1 - ->> [INFO {" in world.sink.lines[0]
    world.shown(b'CONNECT {"verbose":false}\r\n')
    assert world.shown(b"SUB a 1\r\nPUB a 2\r\nhi\r\n") == [
        "10.0.0.1:5 - cid:1 - <<- [SUB a 1]",
        "10.0.0.1:5 - cid:1 - <<- [PUB a 2]",
        "10.0.0.1:5 - cid:1 - <<- [hi]",
        "10.0.0.1:5 - cid:1 - ->> [MSG a 1 2]",
        "10.0.0.1:5 - cid:1 - ->> [hi]",
    ]
    assert b"MSG a 1 2\r\nhi\r\n" in world.client.received()


def test_passwords_and_tokens_are_not_shown() -> None:
    world = Traced()
    connect = rb'CONNECT {"user":"u","pass":"se\"cret", "auth_token": "secret","jwt":"secret","name":"n"}'
    shown = world.shown(connect + b"\r\n")
    assert "secret" not in "".join(shown)
    assert "cret" not in "".join(shown)
    assert '"pass":"[REDACTED]", "auth_token": "[REDACTED]"' in shown[0]
    assert '"name":"n"' in shown[0]
    assert "secret" not in "".join(world.shown(b'CONNECT {"pass":"secret'))


def test_a_long_line_and_a_long_chunk_are_cut() -> None:
    world = Traced()
    [line] = world.shown(b"+" + b"x" * (LINE_SIZE_MAX + 1) + b"\r\n")[:1]
    assert line.endswith("x...]")
    shown = Traced().shown(b"PING\r\n" * (LINES_MAX + 5))
    assert shown[LINES_MAX].endswith("<<- 28 more bytes")


def test_a_client_that_leaves_is_gone() -> None:
    world = Traced()
    world.client.close()
    world.scheduler.settle()
    world.client.transport.drain()
    assert world.client.is_closed
