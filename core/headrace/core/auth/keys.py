"""NATS keys: Ed25519 and X25519 keys written as text, and what is signed or sealed with them.

A key is written in base 32 without padding: a byte that says whose it is, 32 bytes, and a checksum. So its first
letter tells its kind: O operator, A account, U user, N server, X curve; a seed begins with S and that letter. What
is done with keys is libsodium's business (PyNaCl); it is loaded by the first signature, not by the import.

Source: the format of NATS keys, and of `xkv1` boxes.
"""

import base64
import binascii
from collections.abc import Callable
from enum import Enum
from typing import Final

from headrace.core.base.errors import HeadraceError

SecretBytes = Callable[[int], bytes]
"""Where secrets come from: gives as many bytes as are asked for, which nobody can guess (`secrets.token_bytes`)."""

_SEED: Final = 18 << 3
_RAW_SIZE: Final = 32
_TEXT_SIZE: Final = 56
_BOX_VERSION: Final = b"xkv1"
_BOX_NONCE_SIZE: Final = 24


class KeyKind(Enum):
    """Whose key it is; the value is the first byte of its binary form."""

    ACCOUNT = 0
    OPERATOR = 14 << 3
    SERVER = 13 << 3
    USER = 20 << 3
    CURVE = 23 << 3


class BadKey(HeadraceError):
    """A text that is no key, or no key of the kind that is wanted."""


class BadBox(HeadraceError):
    """A sealed message that was not sealed for this key by that one, or was changed."""


def encode_public(kind: KeyKind, raw: bytes) -> str:
    """Write a public key as text."""
    body = bytes([kind.value]) + raw
    return base64.b32encode(body + _checksum(body)).rstrip(b"=").decode()


def decode_public(text: str, kind: KeyKind) -> bytes:
    """Read the 32 bytes of a public key of this kind; BadKey if it is none."""
    if len(text) != _TEXT_SIZE:
        raise BadKey(f"{_shown(text)} is no key: it has {len(text)} characters, not {_TEXT_SIZE}")
    body = _decoded(text)
    if body[0] != kind.value:
        raise BadKey(f"{_shown(text)} is no {kind.name.lower()} key")
    return body[1:]


def is_public(text: str, kind: KeyKind) -> bool:
    """Tell whether `text` is a public key of this kind."""
    try:
        decode_public(text, kind)
    except BadKey:
        return False
    return True


def decode_seed(text: str) -> tuple[KeyKind, bytes]:
    """Read a seed: whose it is, and its 32 bytes."""
    body = _decoded(text)
    if len(body) != _RAW_SIZE + 2 or body[0] & 0xF8 != _SEED:
        raise BadKey("this is no seed of a key")
    try:
        kind = KeyKind((body[0] & 7) << 5 | body[1] >> 3)
    except ValueError as error:
        raise BadKey("this is no seed of a known kind of key") from error
    return kind, body[2:]


def is_signed(public: str, kind: KeyKind, data: bytes, signature: bytes) -> bool:
    """Tell whether `signature` is that of the key `public` over `data`."""
    from nacl.exceptions import CryptoError  # noqa: PLC0415  (a start without keys need not load it)
    from nacl.signing import VerifyKey  # noqa: PLC0415

    try:
        VerifyKey(decode_public(public, kind)).verify(data, signature)
    except (BadKey, CryptoError, ValueError):
        return False
    return True


def decode_signature(text: str) -> bytes | None:
    """Read a signature as CONNECT carries it: URL-safe base 64 without padding, or the usual kind with it."""
    try:
        if len(text) % 4 and not text.endswith("="):
            return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None


class SigningKey:
    """A key with its secret half: what this server signs with."""

    def __init__(self, kind: KeyKind, seed: bytes) -> None:
        from nacl.signing import SigningKey as SodiumKey  # noqa: PLC0415  (a start without keys need not load it)

        self._key = SodiumKey(seed)
        self.public = encode_public(kind, bytes(self._key.verify_key))

    @classmethod
    def from_seed(cls, text: str) -> "SigningKey":
        return cls(*decode_seed(text))

    @classmethod
    def fresh(cls, kind: KeyKind, secret_bytes: SecretBytes) -> "SigningKey":
        return cls(kind, secret_bytes(_RAW_SIZE))

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data).signature


class CurveKey:
    """An X25519 key with its secret half: seals messages for one other key, and opens what that one sealed."""

    def __init__(self, secret: bytes, secret_bytes: SecretBytes) -> None:
        from nacl.public import PrivateKey  # noqa: PLC0415  (a start without keys need not load it)

        self._key = PrivateKey(secret)
        self._secret_bytes = secret_bytes
        self.public = encode_public(KeyKind.CURVE, bytes(self._key.public_key))

    @classmethod
    def fresh(cls, secret_bytes: SecretBytes) -> "CurveKey":
        return cls(secret_bytes(_RAW_SIZE), secret_bytes)

    def seal(self, data: bytes, public: str) -> bytes:
        """Seal `data` so that only the holder of the curve key `public` can read it."""
        from nacl.public import Box, PublicKey  # noqa: PLC0415

        box = Box(self._key, PublicKey(decode_public(public, KeyKind.CURVE)))
        nonce = self._secret_bytes(_BOX_NONCE_SIZE)
        return _BOX_VERSION + nonce + box.encrypt(data, nonce).ciphertext

    def open(self, sealed: bytes, public: str) -> bytes:
        """Read what the holder of `public` sealed for this key; BadBox if it did not."""
        from nacl.exceptions import CryptoError  # noqa: PLC0415
        from nacl.public import Box, PublicKey  # noqa: PLC0415

        start = len(_BOX_VERSION) + _BOX_NONCE_SIZE
        if not sealed.startswith(_BOX_VERSION) or len(sealed) <= start:
            raise BadBox("encrypted input is not valid")
        box = Box(self._key, PublicKey(decode_public(public, KeyKind.CURVE)))
        try:
            return box.decrypt(sealed[start:], sealed[len(_BOX_VERSION) : start])
        except CryptoError as error:
            raise BadBox("could not decrypt input") from error


def _checksum(body: bytes) -> bytes:
    return binascii.crc_hqx(body, 0).to_bytes(2, "little")


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError) as error:
        raise BadKey(f"{_shown(text)} is no key: it is not base 32") from error
    body, checksum = raw[:-2], raw[-2:]
    if len(body) < 1 + _RAW_SIZE or _checksum(body) != checksum:
        raise BadKey(f"{_shown(text)} is no key: its checksum is wrong")
    return body


def _shown(text: str) -> str:
    """Show a key in an error; a seed is a secret."""
    return "this seed" if text.startswith("S") else repr(text[:64])
