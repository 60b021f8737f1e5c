"""A stream with three consumers on a long random walk, compared after each step with a model that counts anew."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace.core.subject import matches
from unit.jetstream_consumers.consumer_world import ConsumerWorld, S

FILTERS = {"ALL": "s.>", "A": "s.a", "B": "s.b.>"}
SUBJECTS = ("s.a", "s.b.x", "s.b.y", "s.c")
KEPT = 30
"""Messages that the walk lets pile up before it deletes rather than publishes."""


@dataclass
class Model:
    """A consumer, said as plainly as it can be; `owed` holds (consumer sequence, deliveries) of what is pending."""

    pattern: str
    stream: dict[int, str]
    delivered: tuple[int, int] = (0, 0)
    floor: tuple[int, int] = (0, 0)
    owed: dict[int, tuple[int, int]] = field(default_factory=dict)
    queue: list[int] = field(default_factory=list)

    def ahead(self) -> list[int]:
        return [
            sequence
            for sequence, subject in self.stream.items()
            if sequence > self.delivered[1] and matches(self.pattern.encode(), subject.encode())
        ]

    def pull(self, count: int) -> list[int]:
        given: list[int] = []
        while len(given) < count and (self.queue or self.ahead()):
            consumer_sequence = self.delivered[0] + 1
            if self.queue:
                sequence = self.queue.pop(0)
                self.owed[sequence] = (self.owed[sequence][0], self.owed[sequence][1] + 1)
            else:
                sequence = min(self.ahead())
                self.owed[sequence] = (consumer_sequence, 1)
            self.delivered = (consumer_sequence, max(sequence, self.delivered[1]))
            given.append(sequence)
        return given

    def settle(self, sequence: int) -> None:
        if self.owed.pop(sequence, None) is None:
            return
        self.queue = [each for each in self.queue if each != sequence]
        if not self.owed:
            self.floor = self.delivered
        elif sequence < min(self.owed):
            self.floor = (self.owed[min(self.owed)][0] - 1, min(self.owed) - 1)

    def nak(self, sequence: int) -> None:
        if sequence in self.owed and sequence not in self.queue:
            self.queue.append(sequence)

    def reset(self, sequence: int) -> None:
        start = sequence or self.floor[1] + 1
        self.owed.clear()
        self.queue.clear()
        self.delivered = self.floor = (0, start - 1)

    def counters(self) -> dict[str, Any]:
        return {
            "delivered": self.delivered,
            "floor": self.floor,
            "ack_pending": len(self.owed),
            "redelivered": sum(deliveries > 1 for _, deliveries in self.owed.values()),
            "pending": len(self.ahead()),
        }


class Walk:
    """The real thing and the model, taking the same steps."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = ConsumerWorld()
        self.world.create()
        self.last = 0
        self.stream: dict[int, str] = {}
        self.models = {name: Model(pattern, self.stream) for name, pattern in FILTERS.items()}
        for name, pattern in FILTERS.items():
            self.world.consumer(name, filter_subject=pattern, ack_wait=1_000_000_000 * S, max_ack_pending=-1)
        self.inbox = self.world.inbox("in")

    def step(self) -> None:
        name = self.chance.choice(list(self.models))
        model = self.models[name]
        owed = list(model.owed)
        choice = self.chance.random()
        if choice < 0.3 and len(self.stream) < KEPT:
            self.last += 1
            self.stream[self.last] = self.chance.choice(SUBJECTS)
            self.world.publish(self.stream[self.last])
        elif choice < 0.55:
            count = self.chance.randint(1, 5)
            self.world.pull(self.inbox, name, batch=count, no_wait=True)
            assert [stream for _, stream, _, _ in self.inbox.numbers()] == model.pull(count)
        elif choice < 0.85 and owed:
            sequence = self.chance.choice(owed)
            payload = self.chance.choice([b"", b"", b"+TERM", b"-NAK"])
            self.world.ack(sequence, payload=payload, name=name)
            if payload == b"-NAK":
                model.nak(sequence)
            else:
                model.settle(sequence)
        elif choice < 0.985 and self.stream:
            sequence = self.chance.choice(list(self.stream))
            self.world.ask("STREAM.MSG.DELETE.S", {"seq": sequence, "no_erase": True})
            del self.stream[sequence]
            for each in self.models.values():
                each.settle(sequence)
        elif choice < 0.995:
            sequence = self.chance.choice([0, self.chance.randint(1, self.last + 2)])
            self.world.ask(f"CONSUMER.RESET.S.{name}", {"seq": sequence})
            model.reset(sequence)
        else:
            self.world.advance(S)
            self.world.restart()
            self.inbox = self.world.inbox("in")
            for each in self.models.values():
                each.queue.clear()  # a plain NAK is no state; its message is due when its ack wait is over

    def compare(self) -> None:
        for name, model in self.models.items():
            assert self.world.counters(name) == model.counters(), name


def walk(seed: int, steps: int) -> None:
    taken = Walk(seed)
    for _ in range(steps):
        taken.step()
        taken.compare()


@pytest.mark.parametrize("seed", range(3))
def test_every_counter_equals_a_recount_after_each_step(seed: int) -> None:
    walk(seed, 700)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(100, 110))
def test_every_counter_equals_a_recount_on_a_long_walk(seed: int) -> None:
    walk(seed, 10_000)
