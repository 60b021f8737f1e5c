"""Which options come out of a configuration file, and which files are refused."""

import pytest

from headrace.core.config.load import load_text
from headrace.core.config.tree import ConfigInvalid
from headrace.core.options import (
    AccountJetStreamOptions,
    AccountOptions,
    JetStreamOptions,
    Permissions,
    ResponseRule,
    ServerOptions,
    SubjectRules,
    UserOptions,
)

SECOND = 1_000_000_000


def options(text: str) -> ServerOptions:
    loaded = load_text(text, "a.conf", {})
    assert loaded.warnings == ()
    return loaded.options


def test_what_the_file_leaves_out_keeps_its_default() -> None:
    assert options("debug: true") == ServerOptions(debug=True, config_file="a.conf")


def test_scalars_become_options_in_nanoseconds_and_bytes() -> None:
    found = options(
        """
        listen: "127.0.0.1:-1", server_name: n, server_tags: [a, b], server_metadata { k: v }
        trace: true, logtime: false, logtime_utc: true, logfile: l, pid_file: p, ports_file_dir: d
        http: 8222, http_base_path: /x
        max_conn: 10, max_subs: 11, max_subscription_tokens: 12, max_control_line: 1kb, max_payload: 2MB
        max_pending: 4MB, max_closed_clients: 5
        ping_interval: "20s", ping_max: 3, write_deadline: "300ms"
        lame_duck_duration: "1m", lame_duck_grace_period: "5s"
        no_fast_producer_stall: true, no_header_support: true
        """
    )
    assert found == ServerOptions(
        host="127.0.0.1",
        port=-1,
        server_name="n",
        tags=("a", "b"),
        metadata={"k": "v"},
        trace=True,
        log_time=False,
        log_utc=True,
        log_file="l",
        pid_file="p",
        ports_file_dir="d",
        monitor_port=8222,
        monitor_base_path="/x",
        max_connections=10,
        max_subscriptions=11,
        max_sub_tokens=12,
        max_control_line=1024,
        max_payload=2 << 20,
        max_pending=4 << 20,
        max_closed_clients=5,
        ping_interval_ns=20 * SECOND,
        ping_max=3,
        write_deadline_ns=300_000_000,
        lame_duck_duration_ns=60 * SECOND,
        lame_duck_grace_period_ns=5 * SECOND,
        no_fast_producer_stall=True,
        no_header_support=True,
        config_file="a.conf",
    )


def test_keys_are_known_in_any_case_and_by_each_of_their_names() -> None:
    assert options("NET: h\nMonitor_Port: 1\nMAX_CONNECTIONS: 2").host == "h"
    assert options("monitor_port: 1").monitor_port == 1


def test_host_and_port_win_over_listen() -> None:
    found = options('listen: "1.2.3.4:5"\nport: 6')
    assert (found.host, found.port) == ("1.2.3.4", 6)


def test_a_host_for_monitoring_comes_with_the_http_address() -> None:
    found = options('http: "0.0.0.0:8222"')
    assert (found.monitor_host, found.monitor_port) == ("0.0.0.0", 8222)


def test_no_connections_at_all_is_a_negative_limit() -> None:
    assert options("max_connections: 0").max_connections == -1


def test_a_single_user_and_a_token_are_ways_to_log_in() -> None:
    assert options("authorization { user: u, pass: p }").users == (UserOptions("u", "p"),)
    found = options('authorization { token: t, timeout: "1s" }')
    assert (found.token, found.auth_timeout_ns) == ("t", SECOND)
    assert options("authorization { token: t, timeout: 0.5 }").auth_timeout_ns == SECOND // 2


def test_permissions_are_a_subject_a_list_or_an_allow_and_a_deny_list() -> None:
    found = options(
        """
        authorization {
          default_permissions { publish: d }
          users [
            { user: a, password: x, permissions { pub: p, sub: [s, "t q"] } }
            { user: b, password: x, permissions { publish { allow: [p], deny: q }, subscribe { deny: "s.>" } } }
            { user: c, password: x }
            { user: d, password: x, permissions {} }
            { user: e, password: x, permissions { publish: [] } }
          ]
        }
        """
    )
    assert [user.permissions for user in found.users] == [
        Permissions(SubjectRules(("p",)), SubjectRules(("s", "t q"))),
        Permissions(SubjectRules(("p",), ("q",)), SubjectRules(None, ("s.>",))),
        Permissions(SubjectRules(("d",))),
        Permissions(),
        Permissions(),
    ]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("true", ResponseRule()),
        ('{ max: 5, expires: "1s" }', ResponseRule(5, SECOND)),
        ("{ max: -1, ttl: 3 }", ResponseRule(-1, 3 * SECOND)),
    ],
)
def test_allow_responses_alone_allows_no_other_publish(text: str, rule: ResponseRule) -> None:
    found = options(
        f"authorization {{ users [ {{ user: a, password: b, permissions {{ allow_responses: {text} }} }} ] }}"
    )
    assert found.users[0].permissions == Permissions(SubjectRules(()), SubjectRules(), rule)


def test_allow_responses_beside_a_publish_list_leaves_the_list() -> None:
    found = options(
        "authorization { user: a, password: b, permissions { publish: x, allow_responses: true } }"
    )
    assert found.users[0].permissions == Permissions(SubjectRules(("x",)), SubjectRules(), ResponseRule())


def test_accounts_bring_users_limits_and_jetstream() -> None:
    found = options(
        """
        accounts {
          A { users [ { user: a, password: x } ], jetstream: enabled, limits { max_conn: 1, max_subs: 2, max_pay: 3 } }
          B { jetstream { max_mem: 1k, max_file: 2k, streams: 3, consumers: 4, max_bytes: true, max_ack_pending: 5,
                          mem_max_stream_bytes: 6, store_max_stream_bytes: 7 } }
          C { jetstream: false }
        }
        no_auth_user: a
        """
    )
    assert found.users == (UserOptions("a", "x", "A"),)
    assert found.no_auth_user == "a"
    assert found.accounts == (
        AccountOptions("A", AccountJetStreamOptions(), 1, 2, 3),
        AccountOptions("B", AccountJetStreamOptions(1000, 2000, 3, 4, 5, 6, 7, max_bytes_required=True)),
        AccountOptions("C"),
    )


def test_accounts_may_be_a_list_of_names() -> None:
    assert options("accounts: [A, B]").accounts == (AccountOptions("A"), AccountOptions("B"))


@pytest.mark.parametrize("text", ["true", "enabled", "{}", "{ enabled: true }"])
def test_jetstream_is_switched_on_in_several_ways(text: str) -> None:
    assert options(f"jetstream: {text}").jetstream == JetStreamOptions()


@pytest.mark.parametrize("text", ["false", "disabled", "{ enabled: false }"])
def test_jetstream_is_switched_off_in_several_ways(text: str) -> None:
    assert options(f"jetstream: {text}").jetstream is None


def test_a_jetstream_block_sets_the_store() -> None:
    found = options('jetstream { store_dir: /s, max_mem: "1G", max_file: 10G, domain: d, strict: false }')
    assert found.jetstream == JetStreamOptions(
        store_dir="/s", max_memory=1 << 30, max_file=10**10, domain="d", strict=False
    )


def test_a_jetstream_block_bounds_what_a_stream_has_not_stored() -> None:
    found = options("jetstream { max_buffered_size: 1Gb, max_buffered_msgs: 20000 }")
    assert found.jetstream == JetStreamOptions(max_buffered_size=1 << 30, max_buffered_messages=20000)


def test_the_store_may_stand_beside_jetstream() -> None:
    jetstream = options("store_dir: /s\njetstream: true").jetstream
    assert jetstream is not None
    assert jetstream.store_dir == "/s"


def test_a_sync_interval_relaxes_what_an_ack_means() -> None:
    relaxed = options('jetstream { sync_interval: "2m" }').jetstream
    assert relaxed == JetStreamOptions(sync_always=False, sync_interval_ns=120 * SECOND)
    assert options("jetstream { sync_interval: always }").jetstream == JetStreamOptions()


def test_the_scrub_has_a_rate_and_an_off_switch() -> None:
    assert options("jetstream { scrub_rate: 4MiB }").jetstream == JetStreamOptions(scrub_rate=4 * 1024 * 1024)
    assert options("jetstream { scrub_rate: 0 }").jetstream == JetStreamOptions(scrub_rate=0)


def test_a_key_that_a_variable_names_may_be_any_key() -> None:
    found = options("X: 5\nauthorization { P: 'secret'\n user: u, password: $P }\nping_max: $X")
    assert (found.ping_max, found.users) == (5, (UserOptions("u", "secret"),))


def test_an_empty_file_is_a_warning() -> None:
    loaded = load_text("# nothing", "a.conf", {})
    assert loaded.warnings == ("a.conf: config has no values or is empty",)


def test_a_duration_without_unit_is_seconds_and_a_warning() -> None:
    loaded = load_text("port: 1\nwrite_deadline: 5", "a.conf", {})
    assert loaded.options.write_deadline_ns == 5 * SECOND
    assert loaded.warnings == (
        'a.conf:2:1: invalid use of field "write_deadline": write_deadline should be converted to a duration',
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("foo: 1", 'a.conf:1:1: unknown field "foo"'),
        ("ports: 1", 'a.conf:1:1: unknown field "ports"; did you mean "port"?'),
        ("port: 1\n accounts { A { foo: 1 } }", 'a.conf:2:17: unknown field "foo"'),
        ('port: "4222"', "a.conf:1:1: port: expected an integer, got the string '4222'"),
        ("port: true", "a.conf:1:1: port: expected an integer, got the boolean True"),
        ("port: 99999", "a.conf:1:1: port: 99999 is no port; expected 0 to 65535, or -1"),
        (
            "listen: localhost",
            'a.conf:1:1: listen: could not parse address string "localhost"; expected "host:port"',
        ),
        ("listen: [1]", 'a.conf:1:1: listen: expected a port or "host:port"'),
        ('http: "h:x"', 'a.conf:1:1: http: could not parse port "x"'),
        ("debug: 1", "a.conf:1:1: debug: expected true or false, got the integer 1"),
        ("server_name: 'a b'", "a.conf:1:1: server_name: server name cannot contain spaces"),
        ("server_metadata { a: 1 }", "a.conf:1:19: a: expected a string, got the integer 1"),
        (
            "max_subscription_tokens: 300",
            "a.conf:1:1: max_subscription_tokens: input should be less than or equal to 255",
        ),
        ("ping_interval: x", "a.conf:1:1: ping_interval: 'x' is no duration"),
        ("ping_interval: [x]", "a.conf:1:1: ping_interval: expected an integer, got a map or list"),
        (
            "lame_duck_duration: 2m",
            'a.conf:1:1: lame_duck_duration: expected a duration in quotes, such as "2m"',
        ),
        ('lame_duck_duration: "10s"', "a.conf: invalid lame_duck_duration of 10s, minimum is 30 seconds"),
        (
            'lame_duck_duration: "40s"; lame_duck_grace_period: "40s"',
            "a.conf: lame duck grace period (40s) should be strictly lower than lame duck duration (40s)",
        ),
        (
            "max_pending: 100000",
            "a.conf: max_payload (1048576) cannot be higher than max_pending (100000)",
        ),
        ("authorization { token: 1234 }", "a.conf:1:17: token: expected a string, got the integer 1234"),
        ("authorization: x", "a.conf:1:1: authorization: expected a map, got the string 'x'"),
        (
            "authorization { token: t, user: u }",
            "a.conf:1:1: authorization: Cannot have a user/pass and token",
        ),
        (
            "authorization { user: u, users [ {user: a, password: b} ] }",
            "Can not have a single user/pass and a users array",
        ),
        (
            "authorization { token: t, users [ {user: a, password: b} ] }",
            "Can not have a token and a users array",
        ),
        ("authorization { password: p }", "a password needs its user"),
        ("authorization { users [ {password: a} ] }", "a.conf:1:25: users: User entry requires a user"),
        (
            "authorization { users [ {user: a, password: b}, {user: a} ] }",
            'a.conf:1:1: Duplicate user "a" detected',
        ),
        ("accounts { A { users [ {user: a}, {user: a} ] } }", 'a.conf:1:12: Duplicate user "a" detected'),
        (
            "authorization { users [ {user: a, permissions { publish: a..b }} ] }",
            'a.conf:1:49: publish: subject "a..b" is not a valid subject',
        ),
        (
            "authorization { users [ {user: a, permissions { publish { deny: 'a q' } }} ] }",
            'deny: subject "a q" is not a valid subject',
        ),
        (
            "authorization { users [ {user: a, permissions { subscribe: 'a q r' }} ] }",
            'subject "a q r" is not a valid subject, or a subject and a queue',
        ),
        (
            "authorization { users [ {user: a, permissions { publish { foo: x } }} ] }",
            'a.conf:1:59: unknown field "foo"',
        ),
        ("accounts { $G {} }", '"$G" is a Reserved Account'),
        ("accounts { $SYS { jetstream: true } }", "Not allowed to enable JetStream on the system account"),
        ("accounts { A {} }\nno_auth_user: z", 'a.conf:2:1: no_auth_user: "z" not present as user'),
        ("system_account: X", "a.conf:1:1: error resolving system account"),
        ("jetstream: maybe", "Expected 'enabled' or 'disabled' for string value, got 'maybe'"),
        ("jetstream { max_buffered_msgs: -1 }", "a.conf:1:13: max_buffered_msgs: input should be greater"),
        ("jetstream { max_mem: 1024K, max_file: '10' }", "a.conf:1:29: max_file: '10' is no size"),
        ("jetstream { sync_interval: 5 }", "expected a duration in quotes"),
        ("store_dir: /a\njetstream { store_dir: /b }", "Duplicate 'store_dir' configuration"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_key_and_place(text: str, problem: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_text(text, "a.conf", {})
    assert problem in str(caught.value)


@pytest.mark.parametrize("key", ["leafnodes", "leaf"])
@pytest.mark.parametrize(
    "block", ['{ listen: "127.0.0.1:-1" }', "{ port: 7422, tls { cert_file: a }, authorization { user: u } }"]
)
def test_a_block_that_only_invites_leaf_nodes_is_taken_with_a_warning(key: str, block: str) -> None:
    loaded = load_text(f"port: 4333\n{key} {block}", "a.conf", {})
    assert loaded.options.port == 4333
    (warning,) = loaded.warnings
    assert warning.startswith("a.conf:2:1: leafnodes: ")
    assert warning.endswith("no server can connect as one, and nothing listens")


@pytest.mark.parametrize(
    ("text", "place", "key", "feature"),
    [
        ("cluster { name: c }", "1:1", "cluster", "clustering"),
        ("port: 1\ngateway {}", "2:1", "gateway", "gateways"),
        ("leafnodes { remotes: [] }", "1:13", "remotes", "leaf nodes"),
        ("MQTT {}", "1:1", "MQTT", "MQTT"),
        ("tls { ocsp_peer: true }", "1:7", "ocsp_peer", "OCSP"),
        ("tls { cert_store: x }", "1:7", "cert_store", "certificate stores"),
        ("jetstream { key: k }", "1:13", "key", "encryption of the store"),
    ],
)
def test_a_feature_that_is_absent_is_refused_by_name(text: str, place: str, key: str, feature: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_text(text, "a.conf", {})
    assert str(caught.value).startswith(
        f'a.conf:{place}: "{key}" is refused: this version of Headrace does not have {feature}'
    )


def test_all_problems_of_a_file_are_told_together() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_text("foo: 1\nport: x\ncluster {}", "a.conf", {})
    assert sorted(problem.split(": ")[0] for problem in caught.value.problems) == [
        "a.conf:1:1",
        "a.conf:2:1",
        "a.conf:3:1",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("https: 8443", "TLS cert and key required for HTTPS"),
        ("http: 8222, https: 8443", "can't specify both HTTP (8222) and HTTPs (8443) ports"),
        (
            'websocket { port: -1, no_tls: true, jwt_cookie: "j" }',
            'trusted operators or trusted keys configuration is required for JWT authentication via cookie "j"',
        ),
    ],
)
def test_what_needs_something_else_is_refused_without_it(text: str, problem: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_text(text, "a.conf", {})
    assert problem in str(caught.value)
