"""NATS keys: their text, signatures, and sealed messages."""

import base64
import secrets

import nkeys
import pytest

from headrace.core.auth.keys import (
    BadBox,
    BadKey,
    CurveKey,
    KeyKind,
    SigningKey,
    decode_public,
    decode_seed,
    decode_signature,
    encode_public,
    is_public,
    is_signed,
)

USER = SigningKey(KeyKind.USER, bytes(range(32)))


@pytest.mark.parametrize(
    ("kind", "letter"),
    [
        (KeyKind.ACCOUNT, "A"),
        (KeyKind.OPERATOR, "O"),
        (KeyKind.SERVER, "N"),
        (KeyKind.USER, "U"),
        (KeyKind.CURVE, "X"),
    ],
)
def test_the_first_letter_of_a_key_tells_its_kind(kind: KeyKind, letter: str) -> None:
    text = encode_public(kind, bytes(32))
    assert text[0] == letter
    assert decode_public(text, kind) == bytes(32)
    assert not is_public(text, KeyKind.USER if kind is not KeyKind.USER else KeyKind.ACCOUNT)


def test_keys_are_those_of_the_nkeys_library() -> None:
    raw = secrets.token_bytes(32)
    seed = nkeys.encode_seed(raw, nkeys.PREFIX_BYTE_USER).decode()
    theirs = nkeys.from_seed(bytearray(seed.encode()))
    ours = SigningKey.from_seed(seed)
    assert ours.public == theirs.public_key.decode()
    assert is_signed(ours.public, KeyKind.USER, b"data", theirs.sign(b"data"))
    assert decode_seed(seed) == (KeyKind.USER, raw)


@pytest.mark.parametrize(
    "text", ["", "U", "x" * 56, "U" * 56, USER.public[:-1] + "A", USER.public.lower(), "é" * 56]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(BadKey):
        decode_public(text, KeyKind.USER)
    assert not is_public(text, KeyKind.USER)
    assert not is_signed(text, KeyKind.USER, b"", bytes(64))


def test_an_error_about_a_seed_does_not_show_it() -> None:
    seed = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER).decode()
    with pytest.raises(BadKey) as caught:
        decode_public(seed[:56], KeyKind.USER)
    assert seed[:20] not in str(caught.value)
    with pytest.raises(BadKey):
        decode_seed(USER.public)


def test_a_signature_holds_for_its_key_and_data_alone() -> None:
    signature = USER.sign(b"data")
    assert is_signed(USER.public, KeyKind.USER, b"data", signature)
    assert not is_signed(USER.public, KeyKind.USER, b"other", signature)
    assert not is_signed(USER.public, KeyKind.USER, b"data", bytes(64))
    assert not is_signed(USER.public, KeyKind.USER, b"data", b"short")
    assert not is_signed(USER.public, KeyKind.ACCOUNT, b"data", signature)


def test_signatures_are_read_in_both_kinds_of_base_64() -> None:
    raw = b"\xfb\xff" * 32
    assert decode_signature(base64.urlsafe_b64encode(raw).rstrip(b"=").decode()) == raw
    assert decode_signature(base64.b64encode(raw).decode()) == raw
    assert decode_signature("not base 64!") is None
    assert decode_signature("é") is None


def test_a_sealed_message_is_opened_by_the_other_key_alone() -> None:
    ours, theirs, third = (CurveKey.fresh(secrets.token_bytes) for _ in range(3))
    sealed = ours.seal(b"secret", theirs.public)
    assert sealed.startswith(b"xkv1")
    assert theirs.open(sealed, ours.public) == b"secret"
    for key, sender in ((third, ours), (theirs, third)):
        with pytest.raises(BadBox):
            key.open(sealed, sender.public)
    with pytest.raises(BadBox):
        theirs.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), ours.public)
    with pytest.raises(BadBox):
        theirs.open(b"short", ours.public)
