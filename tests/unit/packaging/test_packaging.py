"""What is installed: every package of the four roots, compiled where it can be, each layer alone at its height."""

import ast
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.core.base.engine_choice import COMPILED_MODULES

REPOSITORY = Path(__file__).parents[3]
ROOTS = ("core", "storage", "jetstream", "tools")

# What each part may import of Headrace, by prefix; the longest prefix that names a module decides. See "Layers" in
# docs/architecture.md. A part that may import everything is not listed.
BASE = ("headrace.core.base",)
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "headrace.core": ("headrace.core",),
    "headrace.core.base": BASE,
    "headrace.storage": ("headrace.storage", *BASE),
    "headrace.jetstream": (
        "headrace.jetstream",
        "headrace.storage",
        "headrace.core.bus",
        "headrace.core.headers",
        "headrace.core.options",
        "headrace.core.subject",
        "headrace.core.subject_transform",
        *BASE,
    ),
}
LAYERS = ("core", "storage", "jetstream")
ABOVE = {
    "core": (
        "headrace.storage",
        "headrace.jetstream",
        "headrace.tools",
        "headrace.embed",
        "headrace.testing",
    ),
    "storage": ("headrace.jetstream", "headrace.tools", "headrace.embed", "headrace.testing"),
    "jetstream": ("headrace.tools", "headrace.embed", "headrace.testing"),
}


def sources() -> Iterator[tuple[str, Path]]:
    """Give every module of the four roots, with its dotted name."""
    for root in ROOTS:
        for path in sorted((REPOSITORY / root).rglob("*.p*")):
            if path.suffix in {".py", ".pyx", ".pxd"}:
                name = ".".join(path.relative_to(REPOSITORY / root).with_suffix("").parts)
                yield name.removesuffix(".__init__"), path


def imported(path: Path) -> set[str]:
    """Name the modules of ours that a source imports, in Python or in C."""
    text = path.read_text()
    if path.suffix != ".py":
        found = re.findall(r"^\s*(?:from|import|cimport)\s+(headrace[\w.]*)", text, re.MULTILINE)
        return set(found)
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` names a module too
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if is_module(inner) else node.module)
    return {name for name in names if name.split(".")[0] == "headrace"}


@functools.cache
def module_names() -> frozenset[str]:
    return frozenset(name for name, _ in sources())


def is_module(name: str) -> bool:
    return name in module_names()


def allowed(module: str) -> tuple[str, ...] | None:
    parts = module.split(".")
    for size in range(len(parts), 0, -1):
        found = MAY_IMPORT.get(".".join(parts[:size]))
        if found is not None:
            return found
    return None


def is_below(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def wheel_names(folder: Path, environment: dict[str, str]) -> set[str]:
    """Build a wheel of a copy of the sources, and name what is in it."""
    copy = folder / "copy"
    copy.mkdir()
    for root in ROOTS:
        unwanted = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
        shutil.copytree(REPOSITORY / root, copy / root, ignore=unwanted)
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        if (REPOSITORY / name).exists():
            shutil.copy(REPOSITORY / name, copy / name)
    (copy / "README.md").touch()
    build = "from setuptools import build_meta; import sys; print(build_meta.build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", build, str(folder)],
        cwd=copy,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def plain_wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return wheel_names(tmp_path_factory.mktemp("wheel"), {"HEADRACE_BUILD": "plain"})


def test_every_module_is_in_the_wheel(plain_wheel: set[str]) -> None:
    for root in ROOTS:
        for path in (REPOSITORY / root).rglob("*.py"):
            assert str(path.relative_to(REPOSITORY / root)) in plain_wheel


def test_every_package_says_that_it_is_typed(plain_wheel: set[str]) -> None:
    for root in ("core", "storage", "jetstream", "tools"):
        assert f"headrace/{root}/py.typed" in plain_wheel


def test_no_layer_claims_the_common_namespace(plain_wheel: set[str]) -> None:
    assert "headrace/__init__.py" not in plain_wheel
    for root in ROOTS:
        assert not (REPOSITORY / root / "headrace" / "__init__.py").exists()


def test_a_wheel_without_a_compiler_is_plain_and_complete(tmp_path: Path, plain_wheel: set[str]) -> None:
    pytest.importorskip("Cython")
    names = wheel_names(tmp_path, {"CC": "/bin/false", "HEADRACE_BUILD": ""})
    assert not any(name.endswith((".so", ".pyd")) for name in names)
    assert {name for name in names if name.endswith(".py")} == {
        name for name in plain_wheel if name.endswith(".py")
    }


def test_every_compiled_module_of_the_choice_has_a_source_and_every_source_is_chosen() -> None:
    assert {name for name, path in sources() if path.suffix == ".pyx"} == set(COMPILED_MODULES)


@pytest.mark.skipif(
    os.environ.get("HEADRACE_ENGINE") != "compiled", reason="only where the compiled engine is asked for"
)
@pytest.mark.parametrize("name", COMPILED_MODULES)
def test_a_compiled_module_is_machine_code(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    assert spec.origin.endswith((".so", ".pyd"))


def test_imports_point_down_only() -> None:
    wrong = []
    for module, path in sources():
        permitted = allowed(module)
        if permitted is None:
            continue
        wrong += [f"{module} imports {name}" for name in imported(path) if not is_below(name, permitted)]
    assert wrong == []


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_while_those_above_it_are_blocked(layer: str) -> None:
    names = [
        name for name, path in sources() if path.suffix == ".py" and is_below(name, (f"headrace.{layer}",))
    ]
    program = f"""
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if any(name == layer or name.startswith(layer + ".") for layer in {ABOVE[layer]!r}):
            raise ModuleNotFoundError(name + " lies above this layer")
        return None

sys.meta_path.insert(0, Blocked())
for name in {names!r}:
    importlib.import_module(name)
"""
    below = ROOTS[: ROOTS.index(layer) + 1]
    path = os.pathsep.join(str(REPOSITORY / root) for root in below)
    # The choice of an engine is made for all layers together, so a lone layer chooses for itself.
    environment = {name: value for name, value in os.environ.items() if name != "HEADRACE_ENGINE"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
