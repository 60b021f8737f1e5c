"""Where accounts' tokens come from in operator mode.

`MemoryResolver` knows those that the configuration preloads, `UrlResolver` asks a web server, and the directory
(`account_directory.py`) keeps them as files.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol


class Resolver(Protocol):
    """Knows accounts' tokens, or knows whom to ask."""

    def fetch(self, account: str, then: Callable[[str], None]) -> None:
        """Give the token of an account, "" if there is none; `then` is called within this call or later."""
        ...

    def known(self) -> Iterable[str]:
        """Name the accounts whose tokens are at hand; they are looked at when the server starts."""
        ...


class MemoryResolver:
    """The tokens that stand in the configuration."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._tokens = dict(tokens)

    def fetch(self, account: str, then: Callable[[str], None]) -> None:
        then(self._tokens.get(account, ""))

    def known(self) -> Iterable[str]:
        return tuple(self._tokens)


class UrlResolver:
    """Asks a web server: an account's token is at the URL with its name behind."""

    def __init__(
        self,
        url: str,
        timeout_ns: int,
        fetch_url: Callable[[str, int, Callable[[bytes | None], None]], None],
    ) -> None:
        self._url = url if url.endswith("/") else url + "/"
        self._timeout_ns = timeout_ns
        self._fetch_url = fetch_url

    def fetch(self, account: str, then: Callable[[str], None]) -> None:
        self._fetch_url(
            self._url + account,
            self._timeout_ns,
            lambda body: then("" if body is None else body.decode("ascii", "replace").strip()),
        )

    def known(self) -> Iterable[str]:
        return ()
