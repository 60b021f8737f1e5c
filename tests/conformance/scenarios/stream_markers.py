"""Delete markers: what a subject leaves when its last message goes by time."""

import asyncio

from headrace.tools.oracle import Lab, scenario

SECOND = 10**9


@scenario()
async def markers_take_the_place_of_what_went(lab: Lab) -> None:
    for config in (
        {"subject_delete_marker_ttl": 10},
        {"subject_delete_marker_ttl": -1},
        {"subject_delete_marker_ttl": SECOND, "pedantic": True},
        {"subject_delete_marker_ttl": SECOND, "allow_msg_ttl": True, "pedantic": True},
        {"subject_delete_marker_ttl": SECOND, "deny_purge": True},
        {"subject_delete_marker_ttl": SECOND, "max_msgs_per_subject": 1},
    ):
        await lab.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.*"], **config})
        await lab.ask("STREAM.DELETE.S")
    await lab.stream(
        "S", "s.*", subject_delete_marker_ttl=900 * SECOND, max_age=SECOND, duplicate_window=SECOND
    )
    await lab.store("s.a", "one")
    await lab.store("s.a", "two")
    await lab.store("s.b", "stays", Nats_TTL="never")
    await lab.store("s.c", "purged", KV_Operation="PURGE")
    await asyncio.sleep(1.8)
    await lab.state("S", deleted_details=True, subjects_filter=">")
    await lab.api("STREAM.MSG.GET.S", {"last_by_subj": "s.a"})
