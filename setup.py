"""Builds the compiled engine where a C compiler is to be had; installs without it where none is.

pyproject.toml holds everything that is plain data. What needs code is here: the four source roots, each of
which is one layer (and its own `headrace` namespace portion), and the optional extension modules.

`HEADRACE_BUILD` changes what is built: `plain` leaves the compiled engine out, `sanitize` builds it with the
address and undefined-behaviour sanitizers, `required` makes a missing compiler an error.
"""

import os
import re
import sys
from pathlib import Path

from setuptools import Extension, find_namespace_packages, setup

ROOTS = ("core", "storage", "jetstream", "tools")
HERE = Path(__file__).parent
OPTIMIZED = ["-O3", "-fno-strict-aliasing"]
SANITIZED = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]


def version() -> str:
    """Read the version where the server has it, without importing anything."""
    text = (HERE / "core/headrace/core/base/version.py").read_text(encoding="utf-8")
    found = re.search(r'^VERSION: Final = "(.+)"$', text, re.MULTILINE)
    assert found, "version.py says which version this is"
    return found[1]


def packages() -> tuple[list[str], dict[str, str]]:
    """Name every package of every root, and where it lies."""
    names: list[str] = []
    places: dict[str, str] = {}
    for root in ROOTS:
        for name in find_namespace_packages(where=str(HERE / root), include=["headrace.*"]):
            names.append(name)
            places[name] = f"{root}/{name.replace('.', '/')}"
    return names, places


def extensions(build: str) -> list[Extension]:
    """Compile each .pyx of the four roots.

    `optional` is set on what `cythonize` returned: set before, it is lost, and an install without a compiler
    then fails.
    """
    if build == "plain" or sys.byteorder != "little":  # records are written as the machine keeps integers
        return []
    try:
        from Cython.Build import cythonize  # noqa: PLC0415  (absent where only the plain engine is wanted)
    except ImportError:
        if build == "required":
            raise
        return []
    flags = SANITIZED if build == "sanitize" else OPTIMIZED
    wanted = [
        Extension(
            ".".join(path.relative_to(HERE / root).with_suffix("").parts),
            [str(path.relative_to(HERE))],
            extra_compile_args=flags,
            extra_link_args=flags[-1:] if build == "sanitize" else [],
        )
        for root in ROOTS
        for path in sorted((HERE / root).rglob("*.pyx"))
    ]
    built: list[Extension] = cythonize(
        wanted,
        include_path=[str(HERE / root) for root in ROOTS],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
        },
    )
    for extension in built:
        extension.optional = build != "required"
    return built


if __name__ == "__main__":
    NAMES, PLACES = packages()
    setup(
        version=version(),
        packages=NAMES,
        package_dir=PLACES,
        package_data={"": ["py.typed", "*.pyi", "*.pxd", "*.json", "*.html", "*.css", "*.js"]},
        exclude_package_data={"": ["*.c"]},
        ext_modules=extensions(os.environ.get("HEADRACE_BUILD", "")),
    )
