"""Scripts of random steps that were kept show on this server what they showed on the reference.

Most are what is left of a longer one in which the two differed once. `headrace oracle keep` adds one.
"""

from pathlib import Path

import pytest

from headrace.tools.launch import headrace_program
from headrace.tools.oracle.replay import load, replay

SCRIPTS = sorted((Path(__file__).parent / "random_scripts").glob("*.json"))


@pytest.mark.timeout(180)  # most of it waiting for what shall not come: 39 s for the longest
@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
async def test_a_kept_script_shows_what_it_showed_on_the_reference(path: Path) -> None:
    found = await replay(load(path), headrace_program())
    assert found is None, f"\n{found}"


def test_there_are_kept_scripts() -> None:
    assert SCRIPTS
