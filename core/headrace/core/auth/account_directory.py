"""A folder of accounts' tokens, one file each: the resolver of types `full` and `cache`.

`<account's key>.jwt` holds a token as it came. A file is replaced by rename, so a reader never sees half of one; a
deleted one keeps its content under `.jwt.deleted`, unless the configuration wants it gone. Files are small and few, so
they are read and written where they are needed.

Source: the reference server 2.15's directory resolver; `pack` and `digest` are its format for other servers.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from headrace.core.auth.jwt.fields import BadToken
from headrace.core.auth.jwt.token import decode_token
from headrace.core.auth.keys import KeyKind, is_public
from headrace.core.base.errors import HeadraceError
from headrace.core.options import ResolverKind, ResolverOptions

_SUFFIX: Final = ".jwt"
_DELETED: Final = ".deleted"


class DirectoryRefused(HeadraceError):
    """A token that the folder does not take or give up; nothing was changed."""


class AccountDirectory:
    """Accounts' tokens in a folder; with `kind` CACHE, the ones least recently asked for make room for others."""

    def __init__(self, options: ResolverOptions, preload: Mapping[str, str]) -> None:
        self._options = options
        self._folder = Path(options.directory)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._digests: dict[str, bytes] = {}  # by name, in the order of use
        for path in sorted(self._folder.glob("*" + _SUFFIX)):
            name = path.name.removesuffix(_SUFFIX)
            if is_public(name, KeyKind.ACCOUNT) and path.is_file():
                self._digests[name] = _digest(path.read_text("ascii", "replace"))
        for name, text in preload.items():
            self._store_newer(name, text)

    @property
    def allows_delete(self) -> bool:
        return self._options.allow_delete

    def known(self) -> Iterable[str]:
        return tuple(self._digests)

    def fetch(self, account: str, then: Callable[[str], None]) -> None:
        then(self.load(account))

    def load(self, account: str) -> str:
        """Give a token, "" if there is none."""
        if account not in self._digests:
            return ""
        try:
            text = self._path(account).read_text("ascii", "replace").strip()
        except FileNotFoundError:
            del self._digests[account]
            return ""
        self._digests[account] = self._digests.pop(account)  # used last
        return text

    def store(self, account: str, text: str) -> bool:
        """Keep a token; tell whether it is another one than before. DirectoryRefused, OSError: it is not kept."""
        if not is_public(account, KeyKind.ACCOUNT):
            raise DirectoryRefused("invalid public key")
        digest = _digest(text)
        if self._digests.get(account) == digest:
            return False
        limit = self._options.limit
        if account not in self._digests and 0 < limit <= len(self._digests):
            if self._options.kind is not ResolverKind.CACHE:
                raise DirectoryRefused("jwt store is full")
            oldest = next(iter(self._digests))
            self._path(oldest).unlink(missing_ok=True)
            del self._digests[oldest]
        path = self._path(account)
        fresh = path.with_suffix(".new")
        with fresh.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        self._digests.pop(account, None)
        self._digests[account] = digest
        return True

    def delete(self, account: str) -> None:
        """Give up a token; nothing happens where there is none."""
        if not self._options.allow_delete:
            raise DirectoryRefused("store is not set up to for delete")
        path = self._path(account)
        try:
            if self._options.hard_delete:
                path.unlink()
            else:
                path.replace(path.with_name(path.name + _DELETED))
        except FileNotFoundError:
            return
        finally:
            self._digests.pop(account, None)

    def pack(self) -> Iterator[str]:
        """Give every token as another server would merge it: `key|token`."""
        for name in sorted(self._digests):
            text = self.load(name)
            if text:
                yield f"{name}|{text}"

    @property
    def digest(self) -> bytes:
        """Give what two servers compare to see whether they hold the same: all tokens' hashes, combined by XOR."""
        combined = 0
        for digest in self._digests.values():
            combined ^= int.from_bytes(digest, "big")
        return combined.to_bytes(hashlib.sha256().digest_size, "big")

    def _store_newer(self, account: str, text: str) -> None:
        held = self.load(account)
        if held:
            try:
                if decode_token(held).issued_at > decode_token(text).issued_at:
                    return
            except BadToken:
                pass  # what cannot be read is replaced
        self.store(account, text)

    def _path(self, account: str) -> Path:
        return self._folder / (account + _SUFFIX)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
