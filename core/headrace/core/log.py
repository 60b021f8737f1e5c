"""The server's log: a `logging.Logger` that writes lines in the form that NATS tooling reads.

    [4242] 2026/11/23 18:00:00.000000 [INF] Listening for client connections on 0.0.0.0:4222

Test harnesses of the official clients wait for some of these lines, so their text is a promise. A logger made here is
registered nowhere: servers in one process keep their logs apart, and logging elsewhere is left alone. The log
never ends the server: a line that cannot be written (a full disk, a closed pipe) is dropped and counted.
"""

import logging
import os
import re
import sys
import time
from typing import Final, Protocol, TextIO

from headrace.core.base.clock import NS_PER_S, Clock, SystemClock

TRACE: Final = 5
"""The level of protocol traces; `logging` has none below DEBUG."""

FATAL: Final = logging.CRITICAL
"""The level of what makes the server end."""

_LABELS: Final = {
    TRACE: "TRC",
    logging.DEBUG: "DBG",
    logging.INFO: "INF",
    logging.WARNING: "WRN",
    logging.ERROR: "ERR",
    FATAL: "FTL",
}


_ROTATED: Final = re.compile(r"\.\d{4}(\.\d\d){5}\.\d{9}")
"""What is behind a log's name once it was moved away."""


class Sink(Protocol):
    """Where lines go."""

    def write(self, line: str) -> None:
        """Take one line, its line end included; raises OSError where it cannot."""
        ...

    def reopen(self) -> None:
        """Open the file anew, after it was moved away; raises OSError and keeps the old one where it cannot."""
        ...

    def close(self) -> None: ...


class StreamSink:
    """Lines to a stream that somebody else owns: standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr

    def write(self, line: str) -> None:
        self._stream.write(line)
        self._stream.flush()

    def reopen(self) -> None:
        """A stream has no name to open again; nothing happens."""

    def close(self) -> None:
        """The stream stays open: it is not ours."""


class FileSink:
    """Lines appended to a file. Raises OSError when it cannot be opened.

    With `size_max`, a file that has grown beyond it is moved to `<path>.<time>` and a new one begun; with `count_max`,
    the oldest of those are removed, so that with the current one at most so many remain.

    Source: the reference server 2.15, `logfile_size_limit` and `logfile_max_num`.
    """

    def __init__(
        self, path: str, *, size_max: int = 0, count_max: int = 0, clock: Clock | None = None
    ) -> None:
        self._path = path
        self._size_max = size_max
        self._count_max = count_max
        self._clock = clock if clock is not None else SystemClock()
        self._file = self._opened()
        self._size = os.path.getsize(path)

    def _opened(self) -> TextIO:
        # Kept open until `close`. Buffered by line, so that a tail and a harness see each line when it was written.
        return open(self._path, "a", buffering=1, encoding="utf-8")

    def write(self, line: str) -> None:
        self._file.write(line)
        self._size += len(line.encode())
        if 0 < self._size_max < self._size:
            self._rotate()

    def _rotate(self) -> None:
        """Move the full file away; where that fails it grows on, and it is tried again after as many bytes more."""
        self._size = 0
        seconds, rest_ns = divmod(self._clock.now_ns(), NS_PER_S)
        moved = f"{self._path}.{time.strftime('%Y.%m.%d.%H.%M.%S', time.localtime(seconds))}.{rest_ns:09d}"
        os.rename(self._path, moved)
        self.reopen()
        if self._count_max > 0:
            folder, name = os.path.split(self._path)
            kept = sorted(
                found for found in os.listdir(folder or ".") if _ROTATED.fullmatch(found.removeprefix(name))
            )
            for oldest in kept[: max(0, len(kept) - (self._count_max - 1))]:
                os.unlink(os.path.join(folder, oldest))

    def reopen(self) -> None:
        opened = self._opened()
        self._file.close()
        self._file = opened
        self._size = os.path.getsize(self._path)

    def close(self) -> None:
        self._file.close()


class MemorySink:
    """Lines kept in a list, for embedders and tests."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line)

    def reopen(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""


class SinkHandler(logging.Handler):
    """Makes lines of log records and gives them to a sink."""

    def __init__(
        self,
        sink: Sink,
        clock: Clock,
        *,
        is_debug: bool,
        is_trace: bool,
        with_time: bool,
        in_utc: bool,
        process_id: int,
    ) -> None:
        super().__init__()
        self.dropped = 0
        self._sink = sink
        self._clock = clock
        self._left_out = _left_out(is_debug=is_debug, is_trace=is_trace)
        self._with_time = with_time
        self._in_utc = in_utc
        self._process_id = process_id

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno in self._left_out:
            return
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        # One entry is one line: what a peer put into a name must not forge another entry.
        text = text.replace("\r", "\\r").replace("\n", "\\n")
        label = _LABELS.get(record.levelno, "INF")
        try:
            self._sink.write(f"[{self._process_id}] {self._stamp()}[{label}] {text}\n")
        except (OSError, ValueError):  # ValueError: the stream was closed under us
            self.dropped += 1

    def change(
        self, sink: Sink | None, *, is_debug: bool, is_trace: bool, with_time: bool, in_utc: bool
    ) -> None:
        """Write by these settings from now on, to another sink where one is given; the old one is closed."""
        self._left_out = _left_out(is_debug=is_debug, is_trace=is_trace)
        self._with_time = with_time
        self._in_utc = in_utc
        if sink is not None:
            self._sink.close()
            self._sink = sink

    def reopen(self) -> None:
        """Open the sink anew."""
        self._sink.reopen()

    def close(self) -> None:
        self._sink.close()
        super().close()

    def _stamp(self) -> str:
        if not self._with_time:
            return ""
        seconds, rest_ns = divmod(self._clock.now_ns(), NS_PER_S)
        broken_down = time.gmtime(seconds) if self._in_utc else time.localtime(seconds)
        return f"{time.strftime('%Y/%m/%d %H:%M:%S', broken_down)}.{rest_ns // 1000:06d} "


def _left_out(*, is_debug: bool, is_trace: bool) -> set[int]:
    return {level for level, is_wanted in ((logging.DEBUG, is_debug), (TRACE, is_trace)) if not is_wanted}


def _level(*, is_debug: bool, is_trace: bool) -> int:
    return TRACE if is_trace else logging.DEBUG if is_debug else logging.INFO


def make_logger(
    sink: Sink | None = None,
    clock: Clock | None = None,
    *,
    is_debug: bool = False,
    is_trace: bool = False,
    with_time: bool = True,
    in_utc: bool = False,
    process_id: int | None = None,
) -> logging.Logger:
    """Give a logger of its own, which writes to `sink` (standard error when None)."""
    logger = logging.Logger("headrace", _level(is_debug=is_debug, is_trace=is_trace))
    logger.addHandler(
        SinkHandler(
            StreamSink() if sink is None else sink,
            SystemClock() if clock is None else clock,
            is_debug=is_debug,
            is_trace=is_trace,
            with_time=with_time,
            in_utc=in_utc,
            process_id=os.getpid() if process_id is None else process_id,
        )
    )
    return logger


def set_log(
    logger: logging.Logger,
    sink: Sink | None = None,
    *,
    is_debug: bool,
    is_trace: bool,
    with_time: bool,
    in_utc: bool,
) -> None:
    """Change how a logger of `make_logger` writes, and where to if a sink is given."""
    logger.setLevel(_level(is_debug=is_debug, is_trace=is_trace))
    for handler in logger.handlers:
        if isinstance(handler, SinkHandler):
            handler.change(sink, is_debug=is_debug, is_trace=is_trace, with_time=with_time, in_utc=in_utc)


def reopen_log(logger: logging.Logger) -> None:
    """Open the log's file anew; where that fails, the old one is kept and says so."""
    for handler in logger.handlers:
        if not isinstance(handler, SinkHandler):
            continue
        try:
            handler.reopen()
        except OSError as error:
            logger.error("Log file not reopened: %s", error)  # noqa: TRY400  (the place in our code says nothing)
        else:
            logger.info("File log re-opened")


def close_log(logger: logging.Logger) -> None:
    """Close the log's sinks; what is logged afterwards is dropped."""
    for handler in list(logger.handlers):
        handler.close()
