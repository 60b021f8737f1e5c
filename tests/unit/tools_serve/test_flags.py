"""How the server's command line is read, and laid over the configuration."""

import pytest

from headrace.core.config.absent import FLAGS as ABSENT
from headrace.core.options import JetStreamOptions, ServerOptions, UserOptions
from headrace.tools.flags import FlagError, Flags, apply_flags, help_text, parse_flags


@pytest.mark.parametrize(
    "words", [["-p", "1"], ["--port", "1"], ["-port=1"], ["--p=1"], ["--port=2", "-p", "1"]]
)
def test_one_dash_is_as_good_as_two_and_equals_as_good_as_a_blank(words: list[str]) -> None:
    assert parse_flags(words) == Flags(port=1)


def test_the_flags_of_official_harnesses_are_read() -> None:
    line = "-p 4225 -m 8225 -a 127.0.0.1 --user u --pass p -DV -js -sd=/tmp/x --config a.conf -P f -l g"
    words = line.split()
    assert parse_flags(words) == Flags(
        port=4225,
        http_port=8225,
        addr="127.0.0.1",
        user="u",
        password="p",
        debug=True,
        trace=True,
        jetstream=True,
        store_dir="/tmp/x",
        config="a.conf",
        pid_file="f",
        log="g",
    )


def test_a_switch_takes_a_value_only_after_equals() -> None:
    assert parse_flags(["-T=false", "--debug=1"]) == Flags(log_time=False, debug=True)


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["version"], Flags(is_version=True)),
        (["help"], Flags(is_help=True)),
        (["-D", "--", "version"], Flags(debug=True, is_version=True)),
        (["-p", "1", "--"], Flags(port=1)),
    ],
)
def test_version_and_help_may_be_words(words: list[str], flags: Flags) -> None:
    assert parse_flags(words) == flags


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ["--prot", "1"],
            "flag provided but not defined: --prot; did you mean --port? --help lists all flags",
        ),
        (["-zzz=1"], "flag provided but not defined: -zzz; --help lists all flags"),
        (["-p"], "flag needs an argument: -p <port>"),
        (["-p", "x"], 'invalid value "x" for flag -p; expected 0 to 65535, or -1'),
        (["-m=70000"], 'invalid value "70000" for flag -m; expected 0 to 65535, or -1'),
        (["-D=maybe"], 'invalid boolean value "maybe" for -D; expected true or false'),
        (["start"], 'unrecognized command: "start"; --help lists what can be given'),
        (
            ["-cluster=nats://h:1"],
            "flag -cluster is refused: this version of Headrace does not have clustering",
        ),
    ],
)
def test_a_command_line_that_cannot_be_used_is_refused(words: list[str], problem: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse_flags(words)
    assert str(caught.value) == problem


def applied(words: list[str], **options: object) -> ServerOptions:
    return apply_flags(parse_flags(words), ServerOptions(**options))  # type: ignore[arg-type]  # a test's shorthand


def test_flags_win_over_the_file() -> None:
    assert applied(["-p", "1"], port=2, host="h") == ServerOptions(port=1, host="h")


def test_no_flags_leave_the_file_as_it_is() -> None:
    assert applied([], port=2, token="t") == ServerOptions(port=2, token="t")


def test_a_store_directory_without_jetstream_is_ignored() -> None:
    assert applied(["-sd", "/x"]) == ServerOptions()


def test_a_store_directory_joins_the_files_jetstream() -> None:
    found = applied(["-sd", "/x"], jetstream=JetStreamOptions(domain="d"))
    assert found.jetstream == JetStreamOptions(store_dir="/x", domain="d")


def test_jetstream_can_be_switched_on_and_off() -> None:
    assert applied(["-js"]).jetstream == JetStreamOptions()
    assert applied(["-js=false"], jetstream=JetStreamOptions()).jetstream is None


def test_a_user_on_the_command_line_stands_in_for_the_global_accounts_users() -> None:
    others = UserOptions("b", "y", "B")
    found = applied(["--user", "u", "--pass", "p"], users=(UserOptions("a", "x"), others), token="t")
    assert (found.users, found.token) == ((UserOptions("u", "p"), others), "")
    found = applied(["--auth", "t"], users=(UserOptions("a", "x"), others))
    assert (found.users, found.token) == ((others,), "t")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--auth", "t", "--user", "u"], "two ways to log in"),
        (["--pass", "p"], "--pass needs --user"),
        (["-n", "a b"], "server name cannot contain spaces"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(words: list[str], problem: str) -> None:
    with pytest.raises(FlagError, match=problem):
        applied(words)


def test_help_names_every_flag_and_those_that_are_absent() -> None:
    text = help_text("headrace-server")
    for name in ("--http_port", "--store_dir", "-DV", "-sl", *(f"--{flag}" for flag in ABSENT)):
        assert name in text


@pytest.mark.parametrize(
    ("word", "debug", "trace"),
    [("-V", None, True), ("-VV", None, True), ("-DV", True, True), ("-DVV", True, True), ("-D", True, None)],
)
def test_a_switch_sets_what_it_names(word: str, debug: bool | None, trace: bool | None) -> None:
    assert parse_flags([word]) == Flags(debug=debug, trace=trace)


def test_the_size_of_a_log_file_is_a_number_of_bytes() -> None:
    assert apply_flags(parse_flags(["--log_size_limit", "1000"]), ServerOptions()).log_size_max == 1000
    with pytest.raises(FlagError, match="expected a number of bytes"):
        parse_flags(["--log_size_limit", "much"])


def test_monitoring_over_tls_needs_a_certificate_and_only_one_port() -> None:
    with pytest.raises(FlagError, match="TLS cert and key required for HTTPS"):
        apply_flags(parse_flags(["-ms", "8443"]), ServerOptions())
    with pytest.raises(FlagError, match="can't specify both HTTP"):
        apply_flags(parse_flags(["-ms", "8443", "-m", "8222"]), ServerOptions())
    tls = ["--tls", "--tlscert", "c", "--tlskey", "k"]
    options = apply_flags(parse_flags(["--https_port", "8443", *tls]), ServerOptions())
    assert (options.monitor_port, options.monitor_is_tls) == (8443, True)
