"""Scenarios: short stories played by real clients on a real server, whichever it is.

A scenario is an async function that is given a `Lab`. Its first docstring line says what a user sees; the function's
name is a sentence. It lives in a module of a scenario folder, and its transcript in a file of the module's name.
"""

import importlib.util
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.tools.oracle.lab import Lab

Story = Callable[["Lab"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story, the configuration it wants, and whether it must have a server of its own.

    `shares_server` False: it looks at what others leave behind (totals, numbers of connections).
    """

    module: str
    name: str
    story: Story
    config: str
    shares_server: bool

    @property
    def title(self) -> str:
        return f"{self.module}.{self.name}"


def scenario(*, config: str = "", shares_server: bool = True) -> Callable[[Story], Scenario]:
    """Make a function a scenario; `config` is added to the server's configuration file."""

    def decorate(story: Story) -> Scenario:
        name = getattr(story, "__name__", "")
        module = story.__module__.rpartition(".")[2]
        return Scenario(module, name, story, config, shares_server)

    return decorate


def load_scenarios(folder: Path) -> list[Scenario]:
    """Load all scenarios of a folder's modules, in order of file name and then of definition."""
    return [
        value
        for path in sorted(folder.glob("*.py"))
        for value in vars(_load_module(path)).values()
        if isinstance(value, Scenario)
    ]


def _load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, f"{path} is not a Python module"
    assert spec.loader is not None, f"{path} has no loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
