"""Damage to a store's files costs at most what was hit, and that is named. The campaigns in their short form."""

import pytest

from headrace.tools.selftest.bits import run_bits, run_types
from headrace.tools.selftest.cases import Found
from headrace.tools.selftest.cuts import cut_place, run_cuts
from headrace.tools.selftest.golden import make_goldens
from headrace.tools.selftest.pages import run_copies, run_pages

TYPES = {
    *(
        "message 00",
        "message 04",
        "message 08",
        "message 10",
        "message 80",
        "skip",
        "batch",
        "settle",
        "seal",
        "close",
    ),
    *("operations of a snapshot", "operations", "complete", "offsets", "subjects", "postings", "sizes"),
}


def test_the_golden_store_has_every_type_of_record() -> None:
    found = {piece.type for golden in make_goldens(1) for piece in golden.pieces}
    assert found >= TYPES


@pytest.mark.timeout(300)
def test_each_bit_of_one_record_of_each_type_costs_at_most_that_record() -> None:
    tally = run_types()
    assert tally.findings == []
    assert tally.counts["messages lost and listed"] > 0


def test_drawn_bits_cost_at_most_the_record_that_they_hit() -> None:
    assert run_bits(seed=1, count=2000, seconds=0, jobs=1).findings == []


def test_what_lay_behind_a_cut_is_named() -> None:
    findings = run_cuts(seed=1, count=500, seconds=0, jobs=1).findings
    assert [each for each in findings if not is_known(each)] == []


def is_known(found: Found) -> bool:
    """Tell the gap of docs/durability.md: the first page of a state log takes along what the journal holds for it."""
    golden, path, length = cut_place(found.number)
    is_first_page = "/state-" in path and length < 4096
    return golden.name == "power cut" and is_first_page and found.text.startswith("consumers: ")


def test_a_damaged_page_costs_at_most_what_lay_in_it() -> None:
    assert run_pages(seed=1, count=200, seconds=0, jobs=1).findings == []


def test_nothing_is_forged_by_copies_of_segments_in_messages() -> None:
    assert run_copies(seed=1, count=20, seconds=0, jobs=1).findings == []
