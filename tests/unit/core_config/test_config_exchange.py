"""Exports, imports, mappings and traces in a configuration file: what they mean, and what is refused in which words."""

import pytest

from headrace.core.config.load import load_text
from headrace.core.config.tree import ConfigInvalid
from headrace.core.exports import (
    Latency,
    Mapping,
    MappingDestination,
    ResponseType,
    ServiceExport,
    ServiceImport,
    StreamExport,
    StreamImport,
)
from headrace.core.options import AccountOptions


def account(a: str = "", b: str = "", name: str = "A") -> AccountOptions:
    options = load_text(f"accounts {{ A {{ {a} }}\n B {{ {b} }} }}").options
    return next(one for one in options.accounts if one.name == name)


def refusal(text: str) -> str:
    with pytest.raises(ConfigInvalid) as refused:
        load_text(text)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{stream: "s.>"}', StreamExport("s.>")),
        ('{stream: "s.>", accounts: [B]}', StreamExport("s.>", ("B",))),
        ('{stream: "s.*", account_token_position: 2}', StreamExport("s.*", token_position=2)),
        ('{stream: "s", accounts: []}', StreamExport("s")),
    ],
)
def test_streams_are_exported(text: str, expected: StreamExport) -> None:
    assert account(f"exports: [{text}]").stream_exports == (expected,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{service: s}", ServiceExport("s")),
        ("{service: s, response: Single}", ServiceExport("s")),
        ("{service: s, response_type: stream}", ServiceExport("s", response=ResponseType.STREAM)),
        ("{service: s, response: chunked}", ServiceExport("s", response=ResponseType.CHUNKED)),
        ('{service: s, threshold: "5s"}', ServiceExport("s", response_threshold_ns=5_000_000_000)),
        ("{service: s, latency: l}", ServiceExport("s", latency=Latency("l"))),
        ("{service: s, latency: {subject: l, sampling: 20%}}", ServiceExport("s", latency=Latency("l", 20))),
        (
            "{service: s, latency: {subject: l, sampling: headers}}",
            ServiceExport("s", latency=Latency("l", 0)),
        ),
        ("{service: s, allow_trace: true}", ServiceExport("s", allow_trace=True)),
    ],
)
def test_services_are_exported(text: str, expected: ServiceExport) -> None:
    assert account(f"exports: [{text}]").service_exports == (expected,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", StreamImport("A", "s.*")),
        (', prefix: "p.q"', StreamImport("A", "s.*", "p.q.s.*")),
        (', prefix: "p."', StreamImport("A", "s.*", "p.s.*")),
        (', to: "t.$1"', StreamImport("A", "s.*", "t.$1")),
        (", allow_trace: true", StreamImport("A", "s.*", allow_trace=True)),
    ],
)
def test_streams_are_imported(text: str, expected: StreamImport) -> None:
    there = 'exports: [{stream: "s.*"}]'
    wanted = f'imports: [{{stream: {{account: A, subject: "s.*"}}{text}}}]'
    assert account(there, wanted, "B").stream_imports == (expected,)


def test_services_are_imported() -> None:
    wanted = "imports: [{service: {account: A, subject: s}, to: t, share: true}]"
    assert account("exports: [{service: s}]", wanted, "B").service_imports == (
        ServiceImport("A", "s", "t", share=True),
    )


def test_mappings_stand_in_accounts_and_at_the_top() -> None:
    text = 'mappings { a: b, "c.*": [{destination: "d.$1", weight: 30%}, {dest: e, weight: 10, cluster: x}] }'
    expected = (
        Mapping("a", (MappingDestination("b"),)),
        Mapping("c.*", (MappingDestination("d.$1", 30), MappingDestination("e", 10, "x"))),
    )
    assert account(text).mappings == expected
    assert account(text.replace("mappings", "maps")).mappings == expected
    assert load_text(text).options.mappings == expected


def test_a_place_for_traces_is_a_subject_and_a_percentage() -> None:
    assert 'Trace destination "t.*" is not valid' in refusal("accounts { A { msg_trace: t.* } }")
    assert "needs to be [1..100]" in refusal("accounts { A { trace_dest: {dest: t, sampling: 0} } }")


def test_the_system_account_exports_its_services_without_being_told_to() -> None:
    wanted = 'imports: [{service: {account: "$SYS", subject: "$SYS.REQ.ACCOUNT.A.CONNZ"}, to: mine}]'
    assert account(wanted).service_imports[0].local == "mine"
    assert "not authorized" in refusal("accounts { A { " + wanted.replace("ACCOUNT.A", "ACCOUNT.B") + " } }")


S = 'exports: [{stream: "s.>"}, {service: "v.>"}]'
STREAM = 'imports: [{stream: {account: A, subject: "%s"}%s}]'
SERVICE = 'imports: [{service: {account: A, subject: "%s"}%s}]'


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (S, STREAM % ("t", ""), 'Error adding stream import "t": stream import not authorized'),
        (S, SERVICE % ("t", ""), 'Error adding service import "t": service import not authorized'),
        ("", STREAM.replace("A,", "C,") % ("t", ""), '"C" account not defined for stream import'),
        ("", SERVICE.replace("A,", "C,") % ("t", ""), '"C" account not defined for service import'),
        ("exports: [{stream: s, accounts: [C]}]", "", '"C" account not defined for stream export'),
        ("exports: [{service: s, accounts: [C]}]", "", '"C" account not defined for service export'),
        ("exports: [{stream: s, accounts: [A]}]", STREAM % ("s", ""), "stream import not authorized"),
        (S, STREAM % ("s.x", ', prefix: "a.*"'), "stream import prefix can not contain wildcard tokens"),
        (
            S,
            STREAM % ("s.x", ", prefix: a, to: b"),
            "Stream import can not have a 'prefix' and a 'to' property",
        ),
        (
            S,
            STREAM % ("s.*", ', to: "t"'),
            "failed to create mapping transform for stream import subject from",
        ),
        (
            S,
            SERVICE % ("v.*", ", to: t"),
            "failed to create mapping transform for service import subject from",
        ),
        (S, SERVICE % ("v.x", ", allow_trace: true"), "Detected allow_trace directive on a non-stream"),
        ("exports: [{stream: s, service: t}]", "", "but already saw a service"),
        ("exports: [{stream: s, latency: t}]", "", "Detected latency directive on non-service"),
        ("exports: [{stream: s, response: stream}]", "", "Detected response directive on non-service"),
        ("exports: [{stream: s, allow_trace: true}]", "", "Detected allow_trace directive on non-service"),
        ("exports: [{service: s, response: x}]", "", 'Unknown response type: "x"'),
        ("exports: [{service: s, latency: {subject: l, sampling: 101}}]", "", "bad sampling percentage"),
        ("exports: [{service: s, latency: l, response: stream}]", "", "must be singleton"),
        ('exports: [{service: s, latency: "l.*"}]', "", "invalid publish subject"),
        ("exports: [{service: s, account_token_position: 1}]", "", 'export "s": invalid subject'),
        ('exports: [{stream: "s..t"}]', "", 'export "s..t": invalid subject'),
        ("exports: [{accounts: [B]}]", "", "an export needs a stream or a service"),
        ("imports: [{to: x}]", "", "an import needs a stream or a service"),
        ('mappings {"a..b": c}', "", 'Subject "a..b" is not a valid subject'),
        (
            "mappings {a: [{dest: b, weight: 60}, {dest: c, weight: 60}]}",
            "",
            "total weight needs to be <= 100",
        ),
        ('mappings {a: "b.$1"}', "", "wildcard index out of range"),
        ("mappings {a: {dest: b, weight: 101}}", "", "Invalid weight"),
    ],
)
def test_what_accounts_cannot_have_is_refused(a: str, b: str, text: str) -> None:
    assert text in refusal(f"accounts {{ A {{ {a} }}\n B {{ {b} }} }}")


def test_two_imports_of_the_same_are_refused() -> None:
    one = '{stream: {account: A, subject: "s.x"}}'
    text = f"accounts {{ A {{ {S} }}\n B {{ imports: [{one}, {one}] }} }}"
    assert "stream import already exists" in refusal(text)
    one = '{service: {account: A, subject: "v.x"}}'
    text = f"accounts {{ A {{ {S} }}\n B {{ imports: [{one}, {one}] }} }}"
    assert 'duplicate service import subject "v.x", previously used in import for account "A"' in refusal(
        text
    )


@pytest.mark.parametrize("kind", ["stream", "service"])
def test_imports_in_a_circle_are_refused(kind: str) -> None:
    def block(name: str, other: str) -> str:
        return (
            f"{name} {{ exports: [{{{kind}: x}}], imports: [{{{kind}: {{account: {other}, subject: x}}}}] }}"
        )

    text = "accounts {\n" + "\n".join((block("A", "B"), block("B", "C"), block("C", "A"))) + "\n}"
    assert "import forms a cycle" in refusal(text)
