"""How campaigns are run: bounded, repeatable by a number, and honest about what they have found."""

import json
from collections import Counter
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.tools.cli import app
from headrace.tools.selftest import store_campaigns
from headrace.tools.selftest.cases import FINDINGS_MAX, Found, expect, run_cases


def picky(number: int) -> Counter[str]:
    expect(number % 10 != 3, f"{number} ends in 3")
    if number == 17:
        raise ValueError("seventeen")
    return Counter({"seen": 1})


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_case_is_run_and_each_broken_one_is_named_by_its_number(jobs: int) -> None:
    tally = run_cases(picky, range(40), jobs=jobs)
    assert tally.cases == 40
    assert tally.counts == {"seen": 35}
    found = sorted(tally.findings, key=lambda each: each.number)
    assert found[0] == Found(3, "3 ends in 3")
    assert [each.number for each in found] == [3, 13, 17, 23, 33]
    assert found[2].text.startswith("ValueError: seventeen (picky:")
    assert not tally.is_cut_short


def test_a_campaign_ends_when_its_time_is_over() -> None:
    tally = run_cases(picky, range(10**9), seconds=0.05)
    assert tally.is_cut_short
    assert 0 < tally.cases < 10**6


def test_a_campaign_ends_when_it_has_found_enough() -> None:
    tally = run_cases(picky, iter(lambda: 3, None))
    assert len(tally.findings) == FINDINGS_MAX
    assert tally.is_cut_short


def test_a_finding_is_told_with_the_number_that_repeats_it_and_status_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found(*, seed: int, count: int, seconds: float, jobs: int) -> Any:
        return run_cases(picky, range(seed, seed + count), seconds=seconds, jobs=jobs)

    monkeypatch.setattr(store_campaigns, "run_power_cuts", found)
    ended = CliRunner().invoke(app, ["selftest", "power-cut", "--seed", "10", "--count", "5", "--json"])
    assert ended.exit_code == 1
    rows = json.loads(ended.stdout)
    assert rows[-1] == {"what": "--seed 13 --count 1", "figure": "13 ends in 3", "passed": False}
    ended = CliRunner().invoke(app, ["selftest", "power-cut", "--seed", "4", "--count", "5"])
    assert ended.exit_code == 0


@pytest.mark.parametrize(
    "command", ["power-cut", "bits", "truncate", "pages", "copies", "io-errors", "index-loss", "disk-full"]
)
def test_each_campaign_has_a_seed_a_size_and_a_time_limit(command: str) -> None:
    shown = CliRunner().invoke(app, ["selftest", command, "--help"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0
    assert all(option in shown.output for option in ("--seed", "--count", "--seconds", "--jobs", "--json"))
