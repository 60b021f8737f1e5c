"""What the configuration grammar makes of a text, and how it refuses one."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace.core.config.grammar import INCLUDES_MAX, NESTING_MAX, load_file, parse
from headrace.core.config.tree import ConfigInvalid, ParseError, digest, plain

REFERENCE = Path(sys.executable).parent / "nats-server"


def values(text: str, environment: dict[str, str] | None = None) -> object:
    return plain(parse(text, "a.conf", environment or {}))


@pytest.mark.parametrize(
    "text", ["port: 1", "port = 1", "port 1", "port=1", "port:1", '"port": 1', "'port' 1", "port :1"]
)
def test_a_key_and_its_value_are_separated_by_equals_colon_or_blanks(text: str) -> None:
    assert values(text) == {"port": 1}


def test_comments_run_from_a_hash_or_two_slashes_to_the_end_of_the_line() -> None:
    assert values("# one\nport: 1 # two\n// three\nhost: h // four\n") == {"port": 1, "host": "h"}


def test_a_hash_or_slashes_inside_a_bare_value_are_part_of_it() -> None:
    assert values("a: b#c\nurl: nats://host\n") == {"a": "b#c", "url": "nats://host"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64", 64),
        ("-1", -1),
        ("1k", 1000),
        ("1kb", 1024),
        ("1KiB", 1024),
        ("64MB", 64 << 20),
        ("2g", 2_000_000_000),
        ("1ti", 1 << 40),
        ("2m", 2_000_000),
        ("1.5", 1.5),
        ("true", True),
        ("YES", True),
        ("off", False),
        ("10s", "10s"),
        ("127.0.0.1:-1", "127.0.0.1:-1"),
        ("'64'", "64"),
        ('"64"', "64"),
        ("2024-02-03T04:05:06Z", datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("2024-02-33T04:05:06Z", "2024-02-33T04:05:06Z"),
        ("1e3", "1e3"),
        ("$2a$10$abc.def/ghi", "$2a$10$abc.def/ghi"),
    ],
)
def test_a_value_has_the_type_that_its_spelling_says(text: str, value: object) -> None:
    found = values(f"a: {text}")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)  # type: ignore[index]  # a dict, as just asserted


def test_double_quotes_take_escapes_and_single_quotes_take_none() -> None:
    assert values(r'a: "x\t\x41\"\\"; b: ' + r"'x\t'") == {"a": 'x\tA"\\', "b": r"x\t"}


def test_a_block_string_ends_with_a_bracket_alone_on_its_line() -> None:
    assert values("a = (\n one (two)\n three\n )\n b: 1") == {"a": "\n one (two)\n three\n", "b": 1}


def test_pairs_end_with_a_new_line_a_comma_or_a_semicolon() -> None:
    assert values("a: 1, b: 2; c: 3\nd: {e: 4, f: 5; g: 6\nh: 7,}") == {
        "a": 1,
        "b": 2,
        "c": 3,
        "d": {"e": 4, "f": 5, "g": 6, "h": 7},
    }


def test_arrays_hold_anything_separated_by_commas_or_new_lines() -> None:
    assert values("a: [1, b\n {c: 2}\n [3,], 'd']") == {"a": [1, "b", {"c": 2}, [3], "d"]}


def test_json_is_a_configuration() -> None:
    assert values('{\n "port": 4222,\n "tags": ["a", "b"], "sub": {"x": true}\n}\n') == {
        "port": 4222,
        "tags": ["a", "b"],
        "sub": {"x": True},
    }


def test_a_key_given_twice_counts_the_last_time() -> None:
    assert values("a: 1\na: 2") == {"a": 2}


def test_a_map_may_begin_on_the_line_after_its_key() -> None:
    assert values("a\n{ b: 1 }\n c: {\n d:\n 2 }") == {"a": {"b": 1}, "c": {"d": 2}}


def test_a_variable_is_looked_up_from_the_inside_out_and_then_in_the_environment() -> None:
    text = "x: 1\ny: 2\nm: { x: 3; a: $x; b: $y; c: $Z }"
    assert values(text, {"Z": "[7, k]", "y": "9"}) == {
        "x": 1,
        "y": 2,
        "m": {"x": 3, "a": 3, "b": 2, "c": [7, "k"]},
    }


def test_a_referenced_key_is_remembered_as_such() -> None:
    assert parse("x: 1\na: $x", "f", {}).referenced == {"x"}


def test_a_quoted_dollar_is_no_variable() -> None:
    assert values('a: "$x"') == {"a": "$x"}


def test_a_variable_defined_after_its_use_is_not_found() -> None:
    with pytest.raises(
        ConfigInvalid, match=r"a.conf:1:4: variable reference for 'b' on line 1 can not be found"
    ):
        values("a: $b\nb: 1")


def test_an_include_is_found_beside_its_file_and_its_keys_join_the_map(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "users.conf").write_text("include 'more.conf'\nb: 2")
    (tmp_path / "sub" / "more.conf").write_text("c: 3")
    (tmp_path / "a.conf").write_text("a: 1\nm {\n include ./sub/users.conf\n}")
    assert plain(load_file(str(tmp_path / "a.conf"), {})) == {"a": 1, "m": {"b": 2, "c": 3}}


def test_a_missing_include_is_refused_with_the_place_that_wants_it(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("a: 1\ninclude ./no.conf")
    with pytest.raises(
        ConfigInvalid, match=r"a\.conf:2:1: error parsing include file './no.conf', open .*no such file"
    ):
        load_file(str(tmp_path / "a.conf"), {})


def test_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("include a.conf")
    with pytest.raises(ConfigInvalid, match=f"more than {INCLUDES_MAX} deep"):
        load_file(str(tmp_path / "a.conf"), {})


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match=r"open /none/here\.conf: no such file or directory"):
        load_file("/none/here.conf", {})


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_bytes(b"a: \xff")
    with pytest.raises(ConfigInvalid, match="not UTF-8"):
        load_file(str(tmp_path / "a.conf"), {})


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("a: b c", "1:6", "Expected a top-level value to end"),
        ("a:\n b", "1:3", "Expected value but found new line"),
        ("\n= 3", "2:1", "Unexpected key separator '='"),
        ("m { a: 1 b: 2 }", "1:10", 'Expected a map value terminator ","'),
        ("m { a: 1", "1:9", "Unexpected EOF processing map"),
        ("a: [1 2]", "1:7", 'Expected an array value terminator ","'),
        ("a: [1,", "1:4", "Unexpected EOF processing array"),
        ('a: "x', "1:4", "Unexpected EOF in a string"),
        (r'a: "\q"', "1:6", "Invalid escape character 'q'"),
        (r'a: "\xg1"', "1:6", "two hexadecimal digits"),
        ("a: (\n b", "1:4", "Unexpected EOF in a block"),
        ("a: -b", "1:4", "Expected a digit but got 'b'"),
        ("a", "1:2", "Expected the value of 'a' but found the end of the file"),
        ("a: ,", "1:4", "Expected the value of 'a' but got ','"),
        ("a: 1 }", "1:6", "Expected a top-level value to end"),
        ("}", "1:1", "Unexpected map terminator"),
        ("cluster{\n}", "2:1", "Expected the value of 'cluster{' but got '}'"),
        ("a: " + "[" * (NESTING_MAX + 1), f"1:{3 + NESTING_MAX + 1}", f"more than {NESTING_MAX} deep"),
        ("include ,", "1:9", "Expected a value but got ','"),
    ],
)
def test_a_text_outside_the_grammar_is_refused_at_its_place(text: str, place: str, problem: str) -> None:
    with pytest.raises(ParseError) as caught:
        values(text)
    assert str(caught.value).startswith(
        f"a.conf:{place}: Parse error on line {place.split(':', maxsplit=1)[0]}: '"
    )
    assert problem in str(caught.value)


def test_the_digest_is_the_same_however_a_configuration_is_written() -> None:
    expected = "sha256:8d697893eada17225f028a97ac0a0cfbd85dfb1fe0f606aa6f327a81bf911795"  # probed
    assert digest(parse("port: 4222; debug: true")) == expected
    assert digest(parse('{"debug": yes, "port": 4222}')) == expected


@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference server is not installed here")
@pytest.mark.parametrize(
    "text",
    [
        "server_tags: [a, b\n c]",
        'x: "a\\x41\\tb"\nserver_name: $x',
        "server_name = a//b",
        "server_name = a # b\nmax_payload 1kib",
        "server_name = (a\n)\n",
        'server_name = "a<b>&c"',
        "authorization\n{ user: a; password: b }",
        "authorization { users = [\n {user: a, password: b},\n {user: c, password: d},\n ] \n}",
        "port: 4222\nPORT: 4223",
        "lame_duck_duration: 1h",
    ],
)
def test_the_reference_reads_the_same_values_out_of_a_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text(text)
    done = subprocess.run(
        [REFERENCE, "-t", "-c", path], capture_output=True, text=True, timeout=10, check=False
    )
    assert digest(load_file(str(path))) in done.stderr
