"""Differences between the two servers that are meant, or are mistakes of the reference: each with its reason.

Each is also told in docs/compatibility.md. After some, both hold the same and a script goes on; after others it ends.
A function is given the steps so far, the last of which shows the difference, and what was seen on both sides.
"""

from collections.abc import Iterator
from typing import Final

from headrace.tools.oracle.normalise import Json
from headrace.tools.oracle.random_script import Script, Step
from headrace.tools.oracle.script_client import Seen


def _is_reset_of_none(script: Script, left: Seen, right: Seen) -> bool:
    """A consumer that is not there cannot be reset: the reference is silent, here the request is refused."""
    return _asks(script[-1], "CONSUMER.RESET.") and not left and bool(right)


def _is_update_after_restart(script: Script, left: Seen, right: Seen) -> bool:
    """The first update of a consumer after a restart is answered with what it was before; it is done all the same."""
    is_done = not any(
        "error" in frame.get("answer", ()) for seen in (left, right) for frame in _answers(seen)
    )
    return _has_restarted(script) and _asks(script[-1], "CONSUMER.CREATE.") and is_done


def _is_ceiling_beyond_the_end(script: Script, left: Seen, right: Seen) -> bool:
    """Where `up_to_seq` is beyond the stream's end, the reference may find nothing."""
    found = _answers(left)
    is_empty = bool(found) and found[0].get("status") == "404 No Results"
    return _asks(script[-1], "DIRECT.GET.") and "up_to_seq" in _body(script[-1]) and is_empty and bool(right)


def _is_count_without_headers(script: Script, left: Seen, right: Seen) -> bool:
    """At the end of a batch without headers the reference tells what was pending at its beginning."""
    body = _body(script[-1])
    is_asked = _asks(script[-1], "DIRECT.GET.") and "no_hdr" in body and "batch" in body
    return is_asked and [frame.get("data") for frame in _answers(left)] == [
        frame.get("data") for frame in _answers(right)
    ]


def _is_order_of_names(script: Script, left: Seen, right: Seen) -> bool:
    """The reference names consumers in the order of chance where limits violate several."""
    return _asks(script[-1], "STREAM.UPDATE.") and _differ_in(left, right, {"description"})


def _is_known_id(script: Script, left: Seen, right: Seen) -> bool:
    """Ids are known after a restart though their messages are gone; the reference forgets them, and stores."""
    is_duplicate = any(frame.get("answer", {}).get("duplicate") for frame in _answers(right))
    return _has_restarted(script) and script[-1]["do"] == "publish" and is_duplicate and bool(left)


def _is_room_after_a_purge(script: Script, left: Seen, right: Seen) -> bool:
    """A purge of pending messages makes room for others: they come at once, in the reference with the next event."""
    answer = next((label for label in right if label.startswith("answer")), "")
    return (
        _asks(script[-1], "STREAM.PURGE.")
        and left.get(answer) == right.get(answer)
        and len(right) > len(left)
    )


def _is_floor_after_a_purge(script: Script, left: Seen, right: Seen) -> bool:
    """A purge of some subjects moves consumers of these in the reference; here they move with what they deliver."""
    was_purged = any(_asks(step, "STREAM.PURGE.") and "filter" in _body(step) for step in script)
    return was_purged and _differ_in(left, right, {"stream_seq"})


def _is_gap_of_a_mirror(script: Script, left: Seen, right: Seen) -> bool:
    """A gap at the origin's end shows in a mirror with the next message."""
    is_asked = _asks(script[-1], "STREAM.INFO.") or _asks(script[-1], "STREAM.LIST")
    has_mirror = any("mirror" in _body(step) for step in script)
    return is_asked and has_mirror and _differ_in(left, right, {"first_seq", "last_seq"})


EXPLAINED: Final = (
    _is_reset_of_none,
    _is_update_after_restart,
    _is_ceiling_beyond_the_end,
    _is_count_without_headers,
    _is_order_of_names,
)
"""Scripts go on after these."""

ENDING: Final = (_is_known_id, _is_room_after_a_purge, _is_floor_after_a_purge, _is_gap_of_a_mirror)
"""The servers hold different things after these: scripts end with them."""


def _asks(step: Step, beginning: str) -> bool:
    subject: str = step["subject"] if step["do"] in {"api", "direct"} else ""
    return subject.startswith(beginning)


def _body(step: Step) -> dict[str, Json]:
    body = step.get("body")
    return body if isinstance(body, dict) else {}


def _has_restarted(script: Script) -> bool:
    return any(step["do"] == "restart" for step in script)


def _answers(seen: Seen) -> list[Json]:
    return [frame for label, found in seen.items() if label.startswith("answer") for frame in found]


def _differ_in(left: Json, right: Json, keys: set[str]) -> bool:
    """Tell whether all that differs is the value of these keys."""
    return set(_differing(left, right, "")) <= keys


def _differing(left: Json, right: Json, key: str) -> Iterator[str]:
    """Give the innermost key of each difference; the empty text where it has none."""
    if isinstance(left, dict) and isinstance(right, dict):
        for name in left.keys() | right.keys():
            yield from _differing(left.get(name), right.get(name), str(name))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for one, other in zip(left, right, strict=True):
            yield from _differing(one, other, key)
    elif left != right:
        yield key
