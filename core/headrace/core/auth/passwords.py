"""Passwords and tokens, in clear or as bcrypt hashes."""

import hmac


def is_hashed(password: str) -> bool:
    """Tell whether a configured password is a bcrypt hash."""
    return password.startswith(("$2a$", "$2b$", "$2x$", "$2y$"))


def is_right(configured: str, given: str) -> bool:
    """Compare what a client sent with what was configured, in time that tells nothing."""
    if is_hashed(configured):
        import bcrypt  # noqa: PLC0415  (a start without hashed passwords need not load it)

        try:
            # bcrypt never looked beyond 72 bytes; newer versions of the library refuse what is longer.
            return bcrypt.checkpw(given.encode()[:72], configured.encode())
        except ValueError:
            return False
    return hmac.compare_digest(configured.encode(), given.encode())
