"""The targets of `headrace selftest fuzz` with their seeds, and with every input that was a finding once."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.tools.selftest.fuzz_targets import SEEDS, TARGETS

FINDINGS = Path(__file__).parent / "fuzz_findings"


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_former_findings_do_no_harm(name: str) -> None:
    target = TARGETS[name]()
    for data in (*SEEDS[name], *(path.read_bytes() for path in sorted(FINDINGS.glob(f"{name}/*")))):
        target(data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bytes_do_no_harm(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(SEEDS[name]))
    start = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(start, len(seed)))
    TARGETS[name]()(seed[:start] + data.draw(st.binary(max_size=30)) + seed[end:])
