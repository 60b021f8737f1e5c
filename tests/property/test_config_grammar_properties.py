"""The configuration grammar, for all inputs."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from headrace.core.config.grammar import parse
from headrace.core.config.load import load_text
from headrace.core.config.tree import ConfigInvalid, digest, plain

# JSON's other escapes (\u, \b, \f, \/) are not in the grammar.
TEXTS = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\x7f"), max_size=20)
FLOATS = st.floats(-1e6, 1e6).filter(lambda value: "e" not in repr(value))
SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), FLOATS, TEXTS)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=20,
)
MAPS = st.dictionaries(TEXTS, VALUES, max_size=6)
WORDS = (
    "include",
    "a",
    "$a",
    "1",
    "2m",
    "true",
    "$2a$",
    "//",
    "\\x",
    "port",
    "users",
    "jetstream",
    "accounts",
)
PIECES = st.one_of(st.sampled_from("{}[]()=:,;#$\"'- \n\r\ufeff"), st.sampled_from(WORDS))


@given(MAPS, st.sampled_from([None, 1]))
def test_what_json_writes_is_read_back(values: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(values, ensure_ascii=False, indent=indent)
    assert plain(parse(text, environment={})) == values


@given(MAPS)
def test_the_digest_depends_on_the_values_alone(values: dict[str, Any]) -> None:
    text = json.dumps(values, ensure_ascii=False)
    spread = json.dumps(dict(reversed(values.items())), ensure_ascii=False, indent=3)
    assert digest(parse(text)) == digest(parse(spread))


@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=40).map("".join)))
@example("a: $a")
@example("\ufeffa: 1")
@example("accounts: 1")
@example("authorization { users: [1, {}] }")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        loaded = load_text(text, environment={})
    except ConfigInvalid as error:
        refused = error
    else:
        assert loaded.digest.startswith("sha256:")
        return
    assert all(refused.problems)
    assert str(refused)
