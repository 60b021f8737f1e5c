"""The campaigns against a store on a failing, a full and a forgetful disk, in their short form."""

from headrace.tools.selftest.disk_full import run_disk_full
from headrace.tools.selftest.index_loss import run_index_loss
from headrace.tools.selftest.io_errors import run_io_errors


def test_a_failing_call_costs_nothing_that_was_acknowledged() -> None:
    tally = run_io_errors(seed=1, count=60, seconds=0, jobs=1)
    assert tally.findings == []
    assert tally.counts["answered with an error"] > 0


def test_a_full_disk_refuses_at_once_and_writes_resume_by_themselves() -> None:
    tally = run_disk_full(seed=1, count=8, seconds=0, jobs=1)
    assert tally.findings == []
    assert tally.counts["refused at once"] > 0


def test_nothing_is_lost_with_the_index() -> None:
    assert run_index_loss(seed=1, count=30, seconds=0, jobs=1).findings == []
