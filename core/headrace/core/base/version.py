"""The version of Headrace: what setup.py builds, and what the server says of itself."""

from typing import Final

VERSION: Final = "0.1.0"
