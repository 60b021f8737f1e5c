"""Message schedules."""

import asyncio

from headrace.tools.oracle import Lab, scenario


@scenario()
async def schedules_make_messages(lab: Lab) -> None:
    await lab.api(
        "STREAM.CREATE.S",
        {"name": "S", "subjects": ["s.*"], "allow_msg_schedules": True, "allow_msg_ttl": True},
    )
    await lab.publish(
        "s.plan",
        "hi",
        Nats_Schedule="@at 2000-01-01T00:00:00Z",
        Nats_Schedule_Target="s.out",
        Nats_Schedule_TTL="5m",
        Color="red",
    )
    await asyncio.sleep(0.8)
    await lab.state("S", deleted_details=True, subjects_filter=">")
    await lab.api("STREAM.MSG.GET.S", {"last_by_subj": "s.out"})
    await lab.publish("s.cron", "x", Nats_Schedule="0 0 0 1 1 *", Nats_Schedule_Target="s.out")
    await lab.api("STREAM.MSG.GET.S", {"last_by_subj": "s.cron"})
    await lab.publish("s.x", "ends it", Nats_Scheduler="s.cron", Nats_Schedule_Next="purge")
    await lab.state("S", subjects_filter=">")


@scenario()
async def schedules_that_cannot_be_are_refused(lab: Lab) -> None:
    for config in ({"discard": "new"}, {"pedantic": True}, {"deny_purge": True}, {}):
        await lab.api(
            "STREAM.CREATE.S", {"name": "S", "subjects": ["s.*"], "allow_msg_schedules": True, **config}
        )
        await lab.ask("STREAM.DELETE.S")
    await lab.stream("S", "s.*", allow_msg_schedules=True)
    hourly = {"Nats_Schedule": "@hourly"}
    out = {**hourly, "Nats_Schedule_Target": "s.out"}
    for headers in (
        {"Nats_Schedule": "x"},
        {"Nats_Schedule": "* * * * *"},
        {"Nats_Schedule": "@every 10ms"},
        {**hourly, "Nats_Schedule_Time_Zone": "No/Where"},
        {"Nats_Schedule": "@every 5s", "Nats_Schedule_Time_Zone": "Europe/Berlin"},
        {**out, "Nats_Schedule_TTL": "x"},
        {**out, "Nats_Schedule_TTL": "5s"},
        {**out, "Nats_Schedule_Rollup": "all"},
        hourly,
        {**hourly, "Nats_Schedule_Target": "s.plan"},
        {**hourly, "Nats_Schedule_Target": "s.*"},
        {**hourly, "Nats_Schedule_Target": "elsewhere"},
        {**out, "Nats_Schedule_Source": "s.out"},
        {**out, "Nats_Schedule_Source": "elsewhere"},
        {**out, "Nats_Rollup": "all"},
        {"Nats_Scheduler": "s.x"},
        {"Nats_Scheduler": "s.x", "Nats_Schedule_Next": "soon"},
        {"Nats_Scheduler": "s.plan", "Nats_Schedule_Next": "purge"},
        {"Nats_Schedule_Next": "purge"},
    ):
        await lab.publish("s.plan", **headers)
    await lab.stream("P", "p")
    await lab.publish("p", **out)
    await lab.publish("p", Nats_Scheduler="p.x", Nats_Schedule_Next="purge")
