"""What a consumer says of itself, counted anew from its stream after every step, whatever happened."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headrace.core.subject import matches
from unit.jetstream_consumers.consumer_world import ConsumerWorld, S

SUBJECTS = ("s.a", "s.b", "s.b.c")
FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"filter_subject": "s.a"},
    {"filter_subject": "s.*"},
    {"filter_subjects": ["s.a", "s.b.>"]},
    {"filter_subject": "s.>", "deliver_policy": "last_per_subject"},
    {"filter_subject": "s.*", "deliver_policy": "by_start_sequence", "opt_start_seq": 4},
)


class ConsumerCounts(RuleBasedStateMachine):
    """A stream that is written to, cut and purged; a consumer that pulls, acks and is restarted."""

    @initialize(
        chosen=st.sampled_from(FILTERS),
        limits=st.sampled_from([{}, {"max_msgs": 6}, {"max_msgs_per_subject": 2}]),
        policy=st.sampled_from(["explicit", "all", "none"]),
        before=st.integers(0, 6),
    )
    def begin(self, chosen: dict[str, Any], limits: dict[str, Any], policy: str, before: int) -> None:
        self.world = ConsumerWorld()
        self.world.create(**limits)
        for number in range(before):
            self.world.publish(SUBJECTS[number % 3])
        self.filters = (
            [chosen["filter_subject"]] if "filter_subject" in chosen else chosen.get("filter_subjects", [">"])
        )
        is_listed = chosen.get("deliver_policy") == "last_per_subject"
        newest = {state.last_sequence for state in self.world.stream("S").log.subjects(None)}
        self.listed = newest if is_listed else set[int]()
        self.listed_to = before if is_listed else 0
        self.policy = policy
        self.world.consumer(ack_policy=policy, ack_wait=None if policy == "none" else 5 * S, **chosen)
        self.inbox = self.world.inbox("in")
        self.unacked: dict[int, str] = {}

    def _matching(self, world: ConsumerWorld) -> list[int]:
        return [
            sequence
            for sequence, subject, _ in world.messages()
            if any(matches(pattern.encode(), subject.encode()) for pattern in self.filters)
        ]

    @rule(subject=st.sampled_from(SUBJECTS), count=st.integers(1, 3))
    def publish(self, subject: str, count: int) -> None:
        for _ in range(count):
            self.world.publish(subject, b"x")

    @rule(batch=st.integers(1, 4))
    def pull(self, batch: int) -> None:
        self.world.pull(self.inbox, batch=batch, no_wait=True)
        for subject in self.inbox.acks():
            self.unacked[int(subject.split(".")[5])] = subject

    @rule(index=st.integers(0, 9), payload=st.sampled_from([b"", b"-NAK", b"+TERM", b"+WPI"]))
    def answer(self, index: int, payload: bytes) -> None:
        if self.unacked:
            sequence = sorted(self.unacked)[index % len(self.unacked)]
            self.world.answer(self.unacked[sequence], payload)

    @rule(sequence=st.integers(1, 20))
    def delete(self, sequence: int) -> None:
        self.world.ask("STREAM.MSG.DELETE.S", {"seq": sequence})

    @rule(
        options=st.sampled_from(
            [{}, {"filter": "s.a"}, {"keep": 2}, {"seq": 5}, {"filter": "s.b", "keep": 1}]
        )
    )
    def purge(self, options: dict[str, Any]) -> None:
        self.world.ask("STREAM.PURGE.S", options)

    @rule(duration=st.integers(1, 6))
    def pass_time(self, duration: int) -> None:
        self.world.advance(duration * S)

    @rule()
    def restart(self) -> None:
        self.world.advance(1 * S)
        self.world.restart()
        self.inbox = self.world.inbox("in")

    @invariant()
    def counts_are_exact(self) -> None:
        if not hasattr(self, "world"):
            return
        info = self.world.info()
        delivered = info["delivered"]["stream_seq"]
        existing = self._matching(self.world)
        ahead = [
            sequence
            for sequence in existing
            if sequence > delivered and (sequence > self.listed_to or sequence in self.listed)
        ]
        assert info["num_pending"] == len(ahead), (info, existing)
        floor = info["ack_floor"]
        assert floor["stream_seq"] <= delivered
        assert floor["consumer_seq"] <= info["delivered"]["consumer_seq"]
        assert info["num_ack_pending"] <= sum(floor["stream_seq"] < s <= delivered for s in existing)
        if self.policy == "none":
            assert info["num_ack_pending"] == 0
        assert info["num_redelivered"] <= info["num_ack_pending"]


TestConsumerCounts = ConsumerCounts.TestCase
TestConsumerCounts.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
