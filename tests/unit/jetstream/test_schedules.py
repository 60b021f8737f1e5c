"""Messages that make others, at a time or again and again."""

import pytest

from headrace.core import headers
from headrace.core.base.clock import NS_PER_S
from headrace.jetstream.errors import ApiError
from headrace.jetstream.models.times import encode_time
from headrace.jetstream.streams.cron import due_after
from headrace.storage.interface import Entry
from unit.jetstream.world import World

START = 1_700_000_000 * NS_PER_S  # a Tuesday, 22:13:20


@pytest.fixture
def scheduling() -> World:
    world = World()
    world.create(allow_msg_schedules=True, allow_msg_ttl=True)
    return world


def at(world: World, seconds: int) -> str:
    return "@at " + encode_time(world.scheduler.now_ns() + seconds * NS_PER_S)


def subjects(world: World) -> list[str]:
    return [subject for _, subject, _ in world.messages()]


@pytest.mark.parametrize(
    ("pattern", "zone", "due"),
    [
        ("@at 2030-01-01T00:00:00Z", "", "2030-01-01T00:00:00Z"),
        ("@every 1m30s", "", "2023-11-14T22:14:50Z"),
        ("@hourly", "", "2023-11-14T23:00:00Z"),
        ("@daily", "America/New_York", "2023-11-15T05:00:00Z"),
        ("*/5 * * * * *", "", "2023-11-14T22:13:25Z"),
        ("0 0 12 ? jan-mar mon,fri", "", "2024-01-01T12:00:00Z"),
        ("0 0 0 1-7/2 * *", "", "2023-12-01T00:00:00Z"),
    ],
)
def test_a_pattern_is_due_at_its_next_time(pattern: str, zone: str, due: str) -> None:
    assert encode_time(due_after(pattern.encode(), zone, START, START).time_ns) == due


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "x",
        "@at x",
        "@at",
        "@every 10ms",
        "@every x",
        "* * * * *",
        "0 0 0 L * *",
        "0 0 0 * * 7",
        "0 " * 5000,
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ApiError):
        due_after(pattern.encode(), "", START, START)


def test_a_message_is_made_at_its_time_and_its_schedule_goes(scheduling: World) -> None:
    scheduling.publish(
        "s.plan",
        b"hi",
        Nats_Schedule=at(scheduling, 10),
        Nats_Schedule_Target="s.out",
        Nats_Schedule_TTL="5m",
        Color="red",
    )
    scheduling.scheduler.advance(10 * NS_PER_S - 1)
    assert subjects(scheduling) == ["s.plan"]
    scheduling.scheduler.advance(1)
    assert scheduling.messages() == [(2, "s.out", b"hi")]
    view = scheduling.stream("S").log.get(2)
    assert view is not None
    said = headers.parse(view.headers)
    assert said is not None
    assert said.fields == (
        (b"Color", b"red"),
        (b"Nats-Scheduler", b"s.plan"),
        (b"Nats-Schedule-Next", b"purge"),
        (b"Nats-TTL", b"5m"),
    )


def test_a_time_that_has_passed_is_due_at_once(scheduling: World) -> None:
    scheduling.publish("s.plan", Nats_Schedule="@at 2000-01-01T00:00:00Z", Nats_Schedule_Target="s.out")
    scheduling.scheduler.advance(1)
    assert subjects(scheduling) == ["s.out"]


def test_an_interval_goes_on_over_a_restart_and_makes_up_for_one_missed_time(scheduling: World) -> None:
    scheduling.publish("s.plan", Nats_Schedule="@every 10s", Nats_Schedule_Target="s.out")
    for _ in range(2):
        scheduling.scheduler.advance(10 * NS_PER_S)
    assert subjects(scheduling) == ["s.plan", "s.out", "s.out"]
    scheduling.jetstream.close()
    scheduling.scheduler.advance(100 * NS_PER_S)
    scheduling.start()
    scheduling.bus.turn()
    scheduling.scheduler.advance(1)
    assert len(subjects(scheduling)) == 4
    scheduling.scheduler.advance(11 * NS_PER_S)
    assert len(subjects(scheduling)) == 5


def test_a_newer_message_on_its_subject_ends_a_schedule(scheduling: World) -> None:
    scheduling.publish("s.plan", Nats_Schedule=at(scheduling, 10), Nats_Schedule_Target="s.out")
    scheduling.publish("s.plan", b"no schedule")
    scheduling.scheduler.advance(20 * NS_PER_S)
    assert "s.out" not in subjects(scheduling)


def test_a_newer_schedule_takes_the_place_of_the_old_one(scheduling: World) -> None:
    for seconds in (10, 20):
        scheduling.publish("s.plan", Nats_Schedule=at(scheduling, seconds), Nats_Schedule_Target="s.out")
    scheduling.scheduler.advance(15 * NS_PER_S)
    assert subjects(scheduling) == ["s.plan"]
    scheduling.scheduler.advance(5 * NS_PER_S)
    assert subjects(scheduling) == ["s.out"]


def test_a_client_may_end_a_schedule_with_a_message_elsewhere(scheduling: World) -> None:
    scheduling.publish("s.plan", Nats_Schedule=at(scheduling, 10), Nats_Schedule_Target="s.out")
    scheduling.publish("s.x", Nats_Scheduler="s.plan", Nats_Schedule_Next="purge")
    assert subjects(scheduling) == ["s.x"]


def test_what_is_made_is_taken_from_the_source_where_there_is_one(scheduling: World) -> None:
    scheduling.publish("s.source", b"from there", Nats_Msg_Id="x")
    scheduling.publish(
        "s.plan",
        b"own",
        Nats_Schedule=at(scheduling, 1),
        Nats_Schedule_Target="s.out",
        Nats_Schedule_Source="s.source",
    )
    scheduling.scheduler.advance(NS_PER_S)
    assert scheduling.messages()[-1] == (3, "s.out", b"from there")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Nats_Schedule": "x"}, 10189),
        ({"Nats_Schedule": "@hourly", "Nats_Schedule_Time_Zone": "No/Where"}, 10223),
        ({"Nats_Schedule": "@hourly", "Nats_Schedule_Time_Zone": ""}, 10223),
        ({"Nats_Schedule": "@every 5s", "Nats_Schedule_Time_Zone": "Europe/Berlin"}, 10189),
        ({"Nats_Schedule": "@hourly", "Nats_Schedule_TTL": "x"}, 10191),
        ({"Nats_Schedule": "@hourly", "Nats_Schedule_Rollup": "all"}, 10192),
        ({"Nats_Schedule": "@hourly"}, 10190),
        ({"Nats_Schedule": "@hourly", "Nats_Schedule_Target": "s.plan"}, 10190),
        ({"Nats_Schedule": "@hourly", "Nats_Schedule_Target": "s.*"}, 10190),
        ({"Nats_Schedule": "@hourly", "Nats_Schedule_Target": "elsewhere"}, 10190),
        (
            {"Nats_Schedule": "@hourly", "Nats_Schedule_Target": "s.out", "Nats_Schedule_Source": "s.out"},
            10203,
        ),
        ({"Nats_Schedule": "@hourly", "Nats_Schedule_Target": "s.out", "Nats_Rollup": "all"}, 10192),
        ({"Nats_Scheduler": "s.x"}, 10212),
        ({"Nats_Scheduler": "s.x", "Nats_Schedule_Next": "soon"}, 10212),
        ({"Nats_Scheduler": "s.plan", "Nats_Schedule_Next": "purge"}, 10212),
        ({"Nats_Schedule_Next": "purge"}, 10212),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(scheduling: World, fields: dict[str, str], code: int) -> None:
    assert scheduling.publish_error("s.plan", b"", **fields)[0] == code
    assert scheduling.messages() == []


def test_a_message_that_a_crash_parted_from_its_schedules_removal_is_not_made_again(
    scheduling: World,
) -> None:
    scheduling.publish("s.plan", Nats_Schedule=at(scheduling, 10), Nats_Schedule_Target="s.out")
    made = headers.encode(((b"Nats-Scheduler", b"s.plan"), (b"Nats-Schedule-Next", b"purge")))
    log = scheduling.stream("S").log
    log.append([Entry(b"s.out", made, b"", log.head.last_time_ns + 1)])
    scheduling.jetstream.close()
    scheduling.scheduler.advance(20 * NS_PER_S)
    scheduling.start()
    scheduling.bus.turn()
    scheduling.scheduler.advance(NS_PER_S)
    assert subjects(scheduling) == ["s.out"]
