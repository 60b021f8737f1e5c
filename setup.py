"""Builds the compiled engine where a C compiler is to be had; installs without it where none is.

pyproject.toml holds everything that is plain data. What needs code is here: the four source roots, each of
which is one layer (and its own `headrace` namespace portion), and the optional extension modules.
"""

import os
from pathlib import Path

from setuptools import find_namespace_packages, setup

ROOTS = ("core", "storage", "jetstream", "tools")
HERE = Path(__file__).parent


def packages() -> tuple[list[str], dict[str, str]]:
    """Name every package of every root, and where it lies."""
    names: list[str] = []
    places: dict[str, str] = {}
    for root in ROOTS:
        for name in find_namespace_packages(where=root, include=["headrace.*"]):
            names.append(name)
            places[name] = f"{root}/{name.replace('.', '/')}"
    return names, places


def extensions() -> list[object]:
    """Compile each .pyx of the four roots.

    `optional` is set on what `cythonize` returned: set before, it is lost, and an install without a compiler
    then fails.
    """
    if os.environ.get("HEADRACE_BUILD") == "plain":
        return []
    try:
        from Cython.Build import cythonize  # noqa: PLC0415  (absent where only the plain engine is wanted)
        from setuptools import Extension  # noqa: PLC0415
    except ImportError:
        return []
    wanted = [
        Extension(
            ".".join(path.relative_to(HERE / root).with_suffix("").parts),
            [str(path.relative_to(HERE))],
            extra_compile_args=["-O3", "-fno-strict-aliasing"],
        )
        for root in ROOTS
        for path in sorted((HERE / root).rglob("*.pyx"))
    ]
    if not wanted:
        return []
    built = cythonize(
        wanted,
        include_path=list(ROOTS),
        language_level=3,
        compiler_directives={"boundscheck": False, "wraparound": False, "cdivision": True},
    )
    for extension in built:
        extension.optional = True
    return list(built)


NAMES, PLACES = packages()
setup(
    packages=NAMES,
    package_dir=PLACES,
    package_data={"": ["py.typed", "*.pxd", "*.json", "*.html", "*.css", "*.js"]},
    ext_modules=extensions(),
)
