"""Ratios, medians and rows of the benchmark."""

import json

import pytest
from rich.console import Console

from headrace.tools.bench.commands import FLOORS
from headrace.tools.bench.measure import Comparison, Sample, percentile
from headrace.tools.bench.report import TABLE_WIDTH, document, table
from headrace.tools.bench.rows import ROWS, SYNCED, UNSYNCED, selected
from headrace.tools.bench.runner import Contest
from headrace.tools.launch import Program

COMPARISON = Comparison(
    ours=(Sample(300, 1.0, 0.3), Sample(100, 1.0, 0.1), Sample(200, 1.0, 0.2)),
    theirs=(Sample(100, 1.0, 0.2), Sample(100, 1.0, 0.2), Sample(100, 1.0, 0.2)),
)


def test_the_ratio_is_the_median_of_pairs() -> None:
    assert COMPARISON.ratio == pytest.approx(2.0)
    assert COMPARISON.ratios == pytest.approx([1.0, 2.0, 3.0])
    assert COMPARISON.cpu_ratio == pytest.approx(0.5)


def test_processor_time_is_told_for_a_million_messages() -> None:
    assert Sample(count=500_000, elapsed_s=1.0, cpu_s=0.25).cpu_s_per_million == pytest.approx(0.5)


def test_percentiles_of_nothing_are_zero() -> None:
    assert percentile([], 0.99) == 0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0], 0.99) == 3.0


def test_names_of_rows_are_unique_and_tell_their_durability() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert {row.ours, row.theirs} <= ({SYNCED, UNSYNCED} if row.load.jetstream else {""})


def test_rows_are_selected_by_name_or_beginning() -> None:
    assert [row.name for row in selected("deliver-1k, request-*")] == [
        "deliver-1k",
        "request-1",
        "request-50",
    ]
    assert selected("") == list(ROWS)
    with pytest.raises(ValueError, match="no row is named 'nothing'"):
        selected("nothing")


def test_every_floor_has_its_row_and_lies_below_its_claim() -> None:
    for floors in FLOORS.values():
        for floor in floors:
            assert len(selected(floor.row)) == 1
            assert floor.floor < floor.claim


def test_a_table_and_a_document_show_both_sides() -> None:
    contest = Contest(Program("ours", ("true",)), Program("theirs", ("true",)), 3, 1.0)
    results = [(ROWS[0], COMPARISON)]
    console = Console(width=TABLE_WIDTH)
    with console.capture() as capture:
        console.print(table(contest, results))
    assert "2.00x" in capture.get()
    told = json.loads(json.dumps(document(contest, results)))
    assert told["rows"][0]["ratio"] == 2.0
    assert told["rows"][0]["ours"]["messages"] == 600
