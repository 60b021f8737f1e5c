"""Every scenario shows on this server, step by step, what was recorded from the reference."""

from pathlib import Path

import pytest

from answer_schemas import AnswerSchemas
from headrace.tools.oracle import Scenario, Servers, compare, load_scenarios, load_transcripts, play
from headrace.tools.oracle.transcripts import Transcript

SCHEMAS = AnswerSchemas()


@pytest.fixture(scope="session")
def transcripts() -> dict[str, Transcript]:
    return load_transcripts(Path(__file__).parent / "transcripts")


async def test_the_server_behaves_as_the_reference_did(
    scenario: Scenario, servers: Servers, transcripts: dict[str, Transcript]
) -> None:
    played = await play(scenario, servers, SCHEMAS.check)
    assert scenario.title in transcripts, "nothing is recorded for it; run `headrace oracle record`"
    differences = compare(transcripts[scenario.title], played)
    assert not differences, "\n" + "\n".join(str(difference) for difference in differences)


def test_no_transcript_is_left_of_a_scenario_that_is_gone(transcripts: dict[str, Transcript]) -> None:
    known = {scenario.title for scenario in load_scenarios(Path(__file__).parent / "scenarios")}
    assert set(transcripts) <= known
