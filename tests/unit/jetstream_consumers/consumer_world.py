"""Consumers in virtual time: a world of JetStream with hands for pulling, acking and listening."""

from __future__ import annotations

import json
from typing import Any

from unit.jetstream.bus_of_lists import Subscriber
from unit.jetstream.world import ACCOUNT, World

S = 1_000_000_000
MS = 1_000_000


class Inbox:
    """Somebody who pulls: what came to a reply subject, messages and statuses."""

    def __init__(self, world: ConsumerWorld, subject: str, room: int | None = None) -> None:
        self.world = world
        self.subject = subject
        self.subscriber: Subscriber = world.bus.subscribe(ACCOUNT, subject.encode(), room=room)
        self._seen = 0

    def close(self) -> None:
        self.world.bus.unsubscribe(self.subscriber)

    def _news(self) -> list[tuple[Any, bytes]]:
        news = self.subscriber.received[self._seen :]
        self._seen = len(self.subscriber.received)
        return news

    def all(self) -> list[str]:
        """Give what came since the last look: payloads, and status lines with what follows them."""
        return [_shown(view) for view, _ in self._news()]

    def headers(self) -> list[bytes]:
        """Give the header blocks of what came since the last look."""
        return [view.headers for view, _ in self._news()]

    def acks(self) -> list[str]:
        """Give the ack subjects of the messages that came since the last look."""
        return [reply.decode() for view, reply in self._news() if view.sequence]

    def numbers(self) -> list[tuple[int, int, int, int]]:
        """Give deliveries, stream sequence, consumer sequence and pending of what came since the last look."""
        found: list[tuple[int, int, int, int]] = []
        for subject in self.acks():
            deliveries, stream, consumer, _, pending = map(int, subject.split(".")[4:])
            found.append((deliveries, stream, consumer, pending))
        return found


def _shown(view: Any) -> str:
    if view.sequence:
        return str(view.payload.decode())
    lines = view.headers.decode().removeprefix("NATS/1.0 ").strip().split("\r\n")
    return "; ".join(lines)


class ConsumerWorld(World):
    """A world with consumers."""

    def inbox(self, subject: str, room: int | None = None) -> Inbox:
        return Inbox(self, subject, room)

    def consumer(self, name: str = "C", stream: str = "S", **config: Any) -> dict[str, Any]:
        """Make a durable consumer, or what the configuration says; give its info."""
        config.setdefault("durable_name", name)
        config.setdefault("ack_policy", "explicit")
        answer = self.ask(
            f"CONSUMER.CREATE.{stream}.{name}",
            {"stream_name": stream, "config": {k: v for k, v in config.items() if v is not None}},
        )
        assert "error" not in answer, answer
        return answer

    def info(self, name: str = "C", stream: str = "S") -> dict[str, Any]:
        return self.ask(f"CONSUMER.INFO.{stream}.{name}")

    def counters(self, name: str = "C", stream: str = "S") -> dict[str, Any]:
        """Give delivered and floor (consumer, stream), and the four counts that matter."""
        info = self.info(name, stream)
        return {
            "delivered": (info["delivered"]["consumer_seq"], info["delivered"]["stream_seq"]),
            "floor": (info["ack_floor"]["consumer_seq"], info["ack_floor"]["stream_seq"]),
            "ack_pending": info["num_ack_pending"],
            "redelivered": info["num_redelivered"],
            "pending": info["num_pending"],
        }

    def fill(self, count: int, subject: str = "s.a", first: int = 1) -> None:
        """Publish messages m<first>, m<first + 1>, ..."""
        for number in range(first, first + count):
            self.publish(subject, b"m%d" % number)

    def pull(self, inbox: Inbox, name: str = "C", stream: str = "S", **options: Any) -> None:
        """Send a pull request and end the turn."""
        self.pull_raw(inbox, json.dumps(options).encode() if options else b"", name, stream)

    def pull_raw(self, inbox: Inbox, body: bytes, name: str = "C", stream: str = "S") -> None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}".encode()
        self.bus.send(ACCOUNT, subject, body, reply=inbox.subject.encode())
        self.bus.turn()

    def answer(self, subject: str, payload: bytes = b"", reply: bytes = b"") -> None:
        """Say something about a message, on its ack subject."""
        self.bus.send(ACCOUNT, subject.encode(), payload, reply=reply)
        self.bus.turn()

    def ack(self, *sequences: int, payload: bytes = b"", name: str = "C", stream: str = "S") -> None:
        """Say something about messages by their stream sequences."""
        for sequence in sequences:
            self.answer(f"$JS.ACK.{stream}.{name}.1.{sequence}.{sequence}.0.0", payload)

    def advance(self, duration_ns: int) -> None:
        """Let time pass, ending a turn at each thing that falls due."""
        end_ns = self.scheduler.monotonic_ns() + duration_ns
        step_ns = max(MS, duration_ns // 200)
        while self.scheduler.monotonic_ns() < end_ns:
            self.scheduler.advance_to(min(end_ns, self.scheduler.monotonic_ns() + step_ns))
            self.bus.turn()

    def advisories(self, subject: str) -> list[dict[str, Any]]:
        """Give the advisories sent on a subject since the last look; somebody has to `listen`."""
        return [json.loads(sent.payload) for sent in self.bus.answers(subject.encode())]

    def listen(self, subject: str) -> Inbox:
        """Subscribe, so that advisories are made at all."""
        return self.inbox(subject)

    def restart(self) -> None:
        """Stop the server and start another on the same store, as recovery would find it."""
        self.jetstream.close()
        self.start()
