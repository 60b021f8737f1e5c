"""Passwords and tokens, in clear or as bcrypt hashes.

Comparing takes the same time whether a user exists or not: who is unknown is compared with a stand-in of the kind
that the configured ones are (`stand_in`), and refused afterwards.
"""

import hmac
import re
from collections.abc import Iterable
from typing import Final

_HASH: Final = re.compile(r"\$2[abxy]\$\d{2}\$.*", re.DOTALL)
_STAND_IN_TAIL: Final = "$" + "." * 53
_COST: Final = slice(4, 6)
_CLEAR_STAND_IN: Final = "\0"
"""What nobody can send: JSON could carry it, but a stand-in's match is refused all the same."""


def is_hashed(password: str) -> bool:
    """Tell whether a configured password is a bcrypt hash."""
    return _HASH.fullmatch(password) is not None


def is_right(configured: str, given: str) -> bool:
    """Compare what a client sent with what was configured, in time that tells nothing."""
    if is_hashed(configured):
        import bcrypt  # noqa: PLC0415  (a start without hashed passwords need not load it)

        try:
            # bcrypt never looked beyond 72 bytes; newer versions of the library refuse what is longer.
            return bcrypt.checkpw(_encoded(given)[:72], _encoded(configured))
        except ValueError:
            return False
    return hmac.compare_digest(_encoded(configured), _encoded(given))


def stand_in(passwords: Iterable[str]) -> str:
    """Give a password that nobody has, and that takes as long to compare as the slowest of `passwords`."""
    costs = [password[_COST] for password in passwords if is_hashed(password)]
    return f"$2a${max(costs)}{_STAND_IN_TAIL}" if costs else _CLEAR_STAND_IN


def _encoded(text: str) -> bytes:
    # JSON may carry half of a surrogate pair, which is no text that could be configured.
    return text.encode("utf-8", "surrogatepass")
