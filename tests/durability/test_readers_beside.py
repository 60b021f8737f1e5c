"""The offline reader beside a server that writes, drops files and is killed."""

import pytest

from headrace.core.base.chance import Chance
from headrace.tools.launch import headrace_program
from headrace.tools.selftest.readers import is_whole, make_payload, readers


@pytest.mark.timeout(180)
def test_a_reader_never_fails_beside_a_server_that_writes_and_is_killed() -> None:
    rows = readers(headrace_program(), openings=12, seed=1)
    assert [row for row in rows if not row.passed] == []


def test_the_campaign_would_notice_a_torn_payload() -> None:
    payload = make_payload(7, Chance(1))
    assert is_whole(payload)
    assert not is_whole(payload[:-1])
    assert not is_whole(payload.replace(b"*", b"\0"))
