"""The limits of a store that was given none."""

from pathlib import Path

import pytest

from headrace.core.base.chance import Chance
from headrace.core.options import JetStreamOptions
from headrace.storage.memory_store import MemoryStore
from headrace.tools.room import shown_size, with_limits


def test_limits_that_were_given_stay(tmp_path: Path) -> None:
    options = JetStreamOptions(max_memory=0, max_file=7)
    assert with_limits(options, MemoryStore(Chance(1)), str(tmp_path)) == options


def test_limits_that_were_not_given_come_from_the_machine(tmp_path: Path) -> None:
    found = with_limits(JetStreamOptions(), MemoryStore(Chance(1)), str(tmp_path))
    assert found.max_memory > 1 << 20
    assert found.max_file > 1 << 20


def test_where_the_system_does_not_tell_there_is_no_limit() -> None:
    assert with_limits(JetStreamOptions(), MemoryStore(Chance(1)), "/no/such/folder").max_file == -1


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (-1, "unlimited"),
        (0, "0.00 B"),
        (1536, "1.50 KB"),
        (18957376512, "17.66 GB"),
        (1 << 60, "1048576.00 TB"),
    ],
)
def test_a_size_is_shown_in_the_largest_fitting_unit(size: int, text: str) -> None:
    assert shown_size(size) == text
