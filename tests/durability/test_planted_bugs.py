"""A campaign that finds nothing proves something only if it finds the bugs that are known to be there."""

import pytest

from headrace.storage import framing
from headrace.tools.selftest.planted import BUGS, Bug, find


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bug", BUGS, ids=[bug.name.replace(" ", "-") for bug in BUGS])
def test_a_campaign_finds_each_planted_bug(bug: Bug) -> None:
    assert find(bug)


def test_a_planted_bug_is_gone_afterwards() -> None:
    honest = framing.check_body
    find(next(bug for bug in BUGS if "checksum" in bug.name))

    assert framing.check_body is honest
