"""The oracle: scenarios played on a server, and their transcripts held against the reference's."""

from headrace.tools.oracle.lab import Lab
from headrace.tools.oracle.raw_client import RawClient
from headrace.tools.oracle.scenario import Scenario, load_scenarios, scenario
from headrace.tools.oracle.transcripts import (
    Difference,
    Servers,
    compare,
    load_transcripts,
    play,
    save_transcripts,
)

__all__ = [
    "Difference",
    "Lab",
    "RawClient",
    "Scenario",
    "Servers",
    "compare",
    "load_scenarios",
    "load_transcripts",
    "play",
    "save_transcripts",
    "scenario",
]
