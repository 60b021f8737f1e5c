"""The client protocol as scripts: what is sent, and what the reference 2.15.1 answers, byte for byte.

A script is a list of steps on one or more raw connections. Each connection has read INFO when its first step
comes. `expect` is what arrives after `send`, INFO lines shortened to `INFO`; EOF at its end: the server closed. Two
servers that both play a script to its end answer alike.
"""

# ruff: noqa: E501, RUF005  (what goes over the wire stays in one line)

from dataclasses import dataclass

EOF = b"<EOF>"
UNKNOWN = b"-ERR 'Unknown Protocol Operation'\r\n" + EOF
CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'
PING = b"PING\r\n"
PONG = b"PONG\r\n"
OK = b"+OK\r\n"


@dataclass(frozen=True, slots=True)
class Step:
    """`wait_s` is how long the answer may take to begin; the server's timers need longer than its parser."""

    send: bytes
    expect: bytes
    connection: str = "one"
    wait_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    steps: tuple[Step, ...]
    config: str = ""


def violation(text: str) -> bytes:
    """Give the -ERR line of a permissions violation."""
    return f"-ERR 'Permissions Violation for {text}'\r\n".encode()


def one(name: str, *exchanges: tuple[bytes, bytes], config: str = "") -> Script:
    """Make a script of one connection."""
    return Script(name, tuple(Step(send, expect) for send, expect in exchanges), config)


def login(user: str, **more: str) -> bytes:
    """Give a CONNECT with credentials and the usual flags."""
    extra = "".join(f',"{key}":{value}' for key, value in more.items())
    return (
        f'CONNECT {{"verbose":false,"pedantic":false,"headers":true,"user":"{user}","pass":"{user}"{extra}}}\r\n'
    ).encode()


def lines(*subscriptions: bytes) -> bytes:
    """Give one SUB for each, with a sid of its own."""
    return b"".join(b"SUB %b %d\r\n" % (text, number) for number, text in enumerate(subscriptions, 1))


PARSER = [
    one(
        "case_does_not_matter",
        (
            b'connect {"verbose":false}\r\nsub a 1\r\npub a 2\r\nhi\r\nping\r\n',
            b"MSG a 1 2\r\nhi\r\nPONG\r\n",
        ),
    ),
    one(
        "tabs_and_runs_of_blanks_part_arguments",
        (CONNECT + b"SUB\t\ta \t 1\r\nPUB\ta  \t1\r\nx\r\n" + PING, b"MSG a 1 1\r\nx\r\nPONG\r\n"),
    ),
    one(
        "a_bare_line_feed_ends_a_control_line",
        (CONNECT + b"SUB a 1\nPUB a 1\nx\r\nPING\n", b"MSG a 1 1\r\nx\r\nPONG\r\n"),
    ),
    one("a_bare_line_feed_does_not_end_a_payload", (CONNECT + b"PUB a 1\r\nx\n" + PING, UNKNOWN)),
    one("a_payload_longer_than_said", (CONNECT + b"PUB a 2\r\nhiX", UNKNOWN)),
    one("ping_ignores_the_rest_of_its_line", (CONNECT + b"PINGxxx y\r\n+OKxx\r\n" + PING, PONG + PONG)),
    one("connect_needs_no_blank", (b'CONNECT{"verbose":false}\r\n' + PING, PONG)),
    one("a_wrong_first_byte_is_enough", (b"F", UNKNOWN)),
    one("an_empty_line", (CONNECT + b"\r\n", UNKNOWN)),
    one("a_servers_operation", (CONNECT + b"MSG a 1 1\r\nx\r\n", UNKNOWN)),
    one("an_operation_without_arguments", (CONNECT + b"PUB\r\n", UNKNOWN)),
    one("too_few_arguments", (CONNECT + b"SUB foo\r\n", EOF)),
    one("too_many_arguments", (CONNECT + b"PUB foo bar baz 3\r\n", EOF)),
    one("a_size_that_is_none", (CONNECT + b"PUB foo x\r\n", EOF)),
    one("a_negative_size", (CONNECT + b"PUB foo -1\r\n", EOF)),
    one("a_size_of_ten_digits", (CONNECT + b"PUB foo 0000000005\r\nhello\r\n", EOF)),
    one("leading_zeros_stay", (CONNECT + b"SUB a 1\r\nPUB a 005\r\nhello\r\n", b"MSG a 1 005\r\nhello\r\n")),
    one(
        "what_came_before_the_mistake_counts",
        (CONNECT + b"SUB a 1\r\nPUB a 1\r\nx\r\nPUB a -1\r\n", b"MSG a 1 1\r\nx\r\n" + EOF),
    ),
    one("peers_info_is_read_and_ignored", (CONNECT + b"INFO {}\r\n" + PING, PONG), (b"INFO x\r\n", EOF)),
    one("peers_error_closes", (CONNECT + b"-ERR 'x'\r\n" + PING, EOF)),
    one("a_control_line_of_4096", (CONNECT + b"SUB " + b"a" * 4094 + b" 1\r\n" + PING, PONG)),
    one(
        "a_control_line_of_4097",
        (CONNECT + b"SUB " + b"a" * 4095 + b" 1\r\n", b"-ERR 'maximum control line exceeded'\r\n" + EOF),
    ),
    one(
        "an_endless_control_line",
        (CONNECT + b"SUB " + b"a" * 5000, b"-ERR 'maximum control line exceeded'\r\n" + EOF),
    ),
    Script(
        "one_byte_at_a_time",
        tuple(Step(bytes([byte]), b"") for byte in CONNECT + b"SUB a 1\r\nPUB a 5\r\nhello\r\nPIN")
        + (Step(b"G\r\n", b"MSG a 1 5\r\nhello\r\nPONG\r\n"),),
    ),
]

CONNECTING = [
    one(
        "without_connect_a_client_is_verbose",
        (b"SUB a 1\r\nUNSUB 9\r\nPUB a 1\r\nx\r\n" + PING, OK * 3 + b"MSG a 1 1\r\nx\r\nPONG\r\n"),
    ),
    one("an_empty_connect_is_verbose", (b"CONNECT {}\r\n" + PING, OK + PONG)),
    one("null_means_not_given", (b'CONNECT {"verbose":null,"name":null}\r\n' + PING, OK + PONG)),
    one("field_names_in_any_case", (b'CONNECT {"Verbose":false}\r\nSUB a 1\r\n' + PING, PONG)),
    one("connect_of_no_object", (b"CONNECT []\r\n", EOF)),
    one("connect_with_a_wrong_type", (b'CONNECT {"verbose":"x"}\r\n', EOF)),
    one("an_unknown_protocol", (b'CONNECT {"protocol":2}\r\n', b"-ERR 'invalid client protocol'\r\n" + EOF)),
    one(
        "no_responders_without_headers",
        (b'CONNECT {"no_responders":true}\r\n', b"-ERR 'no responders requires headers support'\r\n" + EOF),
    ),
    one(
        "an_account_is_not_chosen",
        (b'CONNECT {"account":"x"}\r\n', b"-ERR 'Authorization Violation'\r\n" + EOF),
    ),
    one(
        "credentials_nobody_asked_for", (b'CONNECT {"verbose":false,"user":"x","pass":"y"}\r\n' + PING, PONG)
    ),
    one(
        "pong_then_info_once",
        (b'CONNECT {"verbose":false,"protocol":1}\r\nPING\r\nPING\r\n', b"PONG\r\nINFO\r\nPONG\r\n"),
    ),
    one(
        "no_info_for_protocol_0", (b'CONNECT {"verbose":false,"protocol":0}\r\nPING\r\nPING\r\n', PONG + PONG)
    ),
    one(
        "a_second_connect_drops_subscriptions",
        (CONNECT + b'SUB a 1\r\nCONNECT {"verbose":false}\r\nPUB a 1\r\nx\r\n' + PING, PONG),
    ),
]

MESSAGES = [
    one(
        "an_error_in_pedantic_mode_does_not_hold_the_message_back",
        (
            b'CONNECT {"verbose":true,"pedantic":true}\r\nSUB > 1\r\nPUB a.* 2\r\nhi\r\n',
            OK + OK + b"-ERR 'Invalid Publish Subject'\r\n" + OK + b"MSG a.* 1 2\r\nhi\r\n",
        ),
    ),
    one(
        "a_subject_with_an_empty_token_matches_nothing",
        (CONNECT + b"SUB > 1\r\nPUB a..b 1\r\nx\r\n" + PING, PONG),
    ),
    one(
        "stars_inside_tokens_are_literal",
        (
            CONNECT
            + lines(b"foo*bar", b"foo>")
            + b"PUB fooxbar 0\r\n\r\nPUB foo*bar 0\r\n\r\nPUB foo> 0\r\n\r\n"
            + PING,
            b"MSG foo*bar 1 0\r\n\r\nMSG foo> 2 0\r\n\r\n" + PONG,
        ),
    ),
    one(
        "bad_subjects_leave_the_connection_open",
        (CONNECT + lines(b">.x", b".a", b"a.", b"a..b") + PING, b"-ERR 'Invalid Subject'\r\n" * 4 + PONG),
    ),
    one(
        "a_sid_in_use_keeps_its_subject",
        (
            CONNECT + b"SUB a 1\r\nSUB b 1\r\nPUB b 0\r\n\r\nPUB a 0\r\n\r\n" + PING,
            b"MSG a 1 0\r\n\r\nPONG\r\n",
        ),
    ),
    one(
        "unsub_counts_from_the_beginning",
        (
            CONNECT
            + b"SUB a 1\r\n"
            + b"PUB a 0\r\n\r\n" * 2
            + b"UNSUB 1 3\r\n"
            + b"PUB a 0\r\n\r\n" * 2
            + PING,
            b"MSG a 1 0\r\n\r\n" * 3 + PONG,
        ),
    ),
    one("unsub_with_no_number_is_now", (CONNECT + b"SUB a 1\r\nUNSUB 1 x\r\nPUB a 0\r\n\r\n" + PING, PONG)),
    one(
        "the_sys_queue_is_reserved",
        (CONNECT + b"SUB a _sys_ 1\r\n" + PING, violation('Subscription to "a" using queue "_sys_"') + PONG),
    ),
    one(
        "a_request_that_nobody_takes",
        (
            CONNECT + b"SUB inbox.* 5\r\nPUB svc inbox.1 0\r\n\r\n" + PING,
            b"HMSG inbox.1 5 35 35\r\nNATS/1.0 503\r\nNats-Subject: svc\r\n\r\n\r\n" + PONG,
        ),
    ),
    one(
        "echo_off_leaves_nobody",
        (
            CONNECT[:-3] + b',"echo":false}\r\nSUB svc 1\r\nSUB r 2\r\nPUB svc r 0\r\n\r\n' + PING,
            b"HMSG r 2 35 35\r\nNATS/1.0 503\r\nNats-Subject: svc\r\n\r\n\r\n" + PONG,
        ),
    ),
    one(
        "headers_not_negotiated", (b'CONNECT {"verbose":false}\r\nHPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n', EOF)
    ),
    one("a_header_size_above_the_total", (CONNECT + b"HPUB a 5 2\r\n", EOF)),
    one(
        "no_headers_in_an_hpub",
        (CONNECT + b"SUB a 1\r\nHPUB a 0 2\r\nhi\r\n" + PING, b"MSG a 1 2\r\nhi\r\n" + PONG),
    ),
    one(
        "garbage_headers_are_forwarded",
        (CONNECT + b"SUB a 1\r\nHPUB a 3 5\r\nXYZhi\r\n" + PING, b"HMSG a 1 3 5\r\nXYZhi\r\n" + PONG),
    ),
    one(
        "reserved_subjects_and_replies",
        (
            CONNECT
            + b"PUB _GR_.x 0\r\n\r\nPUB $NRG.x 0\r\n\r\nPUB a _R_.x 0\r\n\r\nPUB a $JS.ACK.x 0\r\n\r\nPUB a _R_x 0\r\n\r\n"
            + PING,
            violation('Publish to "_GR_.x"')
            + violation('Publish to "$NRG.x"')
            + violation('Publish with Reply of "_R_.x"')
            + violation('Publish with Reply of "$JS.ACK.x"')
            + PONG,
        ),
    ),
    one(
        "names_are_quoted_with_escapes",
        (
            CONNECT + b'PUB _GR_."a\\b\xff\xc3\xa9 1\r\nx\r\n' + PING,
            b'-ERR \'Permissions Violation for Publish to "_GR_.\\"a\\\\b\\xff\xc3\xa9"\'\r\n' + PONG,
        ),
    ),
    Script(
        "headers_are_stripped_for_others",
        (
            Step(b'CONNECT {"verbose":false}\r\nSUB a 1\r\n' + PING, PONG, "plain"),
            Step(CONNECT + b"HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n" + PING, PONG),
            Step(b"", b"MSG a 1 r 2\r\nhi\r\n", "plain"),
        ),
    ),
]

LIMITS = "max_payload: 10\nmax_control_line: 128\nmax_subscriptions: 2\nmax_subscription_tokens: 3"
LIMITED = [
    one(
        "a_payload_at_the_limit",
        (CONNECT + b"SUB a 1\r\nPUB a 10\r\n0123456789\r\n", b"MSG a 1 10\r\n0123456789\r\n"),
        (b"PUB a 11\r\n", b"-ERR 'Maximum Payload Violation'\r\n" + EOF),
        config=LIMITS,
    ),
    one(
        "subscriptions_at_the_limit",
        (CONNECT + lines(b"a", b"b", b"c") + PING, b"-ERR 'maximum subscriptions exceeded'\r\n" + PONG),
        (b"UNSUB 1\r\nSUB c 3\r\n" + PING, PONG),
        config=LIMITS,
    ),
    one(
        "tokens_at_the_limit",
        (
            CONNECT + b"SUB a.b.c 1\r\nSUB a.b.c.d 2\r\n" + PING,
            violation('Subscription to "a.b.c.d", too many tokens') + PONG,
        ),
        config=LIMITS,
    ),
    Script(
        "a_silent_client_goes_stale",
        (
            Step(b'CONNECT {"verbose":false}\r\n', b"PING\r\n"),
            Step(b"", b"PING\r\n"),
            Step(b"", b"-ERR 'Stale Connection'\r\n" + EOF),
        ),
        config='ping_interval: "300ms"\nping_max: 2',
    ),
]

USERS = """
authorization { timeout: 1, users: [
  {user: p, password: p, permissions: {publish: {allow: ["foo.*", "out"], deny: "foo.bad"},
    subscribe: {allow: ["foo.>", "q q1", "v v1.*", "plain", "plain pq"], deny: ["foo.secret", "foo.qq dq"]}}}
  {user: d, password: d, permissions: {subscribe: {deny: "foo.secret"}}}
  {user: r, password: r, permissions: {publish: {deny: ">"}, subscribe: ["svc"], allow_responses: {max: 2, expires: "1m"}}}
  {user: h, password: "$2a$04$lwmCFfahP8cNK5ACo999HOLZhobHdKP3RrU4zk08VmLafNlw1g34y"}
  {user: f, password: f}
] }
"""
VERBOSE_P = login("p", verbose="true")
AUTHORIZED = [
    Script("silence_is_not_waited_for", (Step(b"", b"-ERR 'Authentication Timeout'\r\n" + EOF),), USERS),
    one("anything_before_connect", (b"PING\r\n", b"-ERR 'Authorization Violation'\r\n" + EOF), config=USERS),
    one(
        "a_wrong_password",
        (login("f").replace(b'"pass":"f"', b'"pass":"x"'), b"-ERR 'Authorization Violation'\r\n" + EOF),
        config=USERS,
    ),
    one("a_hashed_password", (login("h") + PING, PONG), config=USERS),
    one(
        "publish_permissions",
        (
            login("p")
            + b"SUB foo.a 1\r\nPUB foo.a 1\r\nx\r\nPUB foo.bad 1\r\nx\r\nPUB bar 1\r\nx\r\n"
            + PING,
            b"MSG foo.a 1 1\r\nx\r\n"
            + violation('Publish to "foo.bad"')
            + violation('Publish to "bar"')
            + PONG,
        ),
        config=USERS,
    ),
    one(
        "an_error_stands_in_place_of_ok",
        (
            VERBOSE_P + b"PUB bar 1\r\nx\r\nPUB foo.a 1\r\nx\r\n" + PING,
            OK + violation('Publish to "bar"') + OK + PONG,
        ),
        config=USERS,
    ),
    one(
        "subscribe_permissions",
        (
            VERBOSE_P + lines(b"bar", b"foo.secret", b"foo.>", b">", b"foo.* zz", b"foo..x"),
            OK
            + violation('Subscription to "bar"')
            + violation('Subscription to "foo.secret"')
            + OK
            + violation('Subscription to ">"')
            + OK
            + violation('Subscription to "foo..x"'),
        ),
        config=USERS,
    ),
    one(
        "queue_permissions",
        (
            VERBOSE_P
            + lines(
                b"q",
                b"q q1",
                b"q q2",
                b"v v1.a",
                b"v v2.a",
                b"plain",
                b"plain pq",
                b"plain other",
                b"foo.qq",
                b"foo.qq dq",
            ),
            OK
            + violation('Subscription to "q"')
            + OK
            + violation('Subscription to "q" using queue "q2"')
            + OK
            + violation('Subscription to "v" using queue "v2.a"')
            + OK
            + OK
            + violation('Subscription to "plain" using queue "other"')
            + OK
            + violation('Subscription to "foo.qq" using queue "dq"'),
        ),
        config=USERS,
    ),
    one(
        "a_denied_part_is_filtered",
        (
            login("d")
            + b"SUB foo.* 1\r\nSUB foo.* g 2\r\nUNSUB 2\r\nPUB foo.secret 0\r\n\r\nPUB foo.ok 0\r\n\r\n"
            + PING,
            b"MSG foo.ok 1 0\r\n\r\n" + PONG,
        ),
        config=USERS,
    ),
    one(
        "another_user_by_a_second_connect",
        (
            login("p") + b"SUB foo.a 1\r\n" + login("f") + b"PUB bar 1\r\nx\r\nPUB foo.a 1\r\nx\r\n" + PING,
            PONG,
        ),
        config=USERS,
    ),
    Script(
        "replies_are_allowed_to_who_was_asked",
        (
            Step(login("r") + b"SUB svc 1\r\n" + PING, PONG, "service"),
            Step(login("f") + b"SUB inbox.* 1\r\nPUB svc inbox.1 1\r\nx\r\n" + PING, PONG),
            Step(b"", b"MSG svc 1 inbox.1 1\r\nx\r\n", "service"),
            Step(
                b"PUB inbox.1 1\r\na\r\nPUB inbox.1 1\r\nb\r\nPUB inbox.1 1\r\nc\r\nPUB inbox.2 1\r\nd\r\n"
                + PING,
                violation('Publish to "inbox.1"') + violation('Publish to "inbox.2"') + PONG,
                "service",
            ),
            Step(b"", b"MSG inbox.1 1 1\r\na\r\nMSG inbox.1 1 1\r\nb\r\n"),
        ),
        USERS,
    ),
]

SYSTEM_ONLY = "accounts { SYS { users: [{user: sys, password: sys}] } }\nsystem_account: SYS"
ACCOUNTS = "accounts { A { users: [{user: a, password: a}] }, B { users: [{user: b, password: b}] } }"
LOGINS = [
    one(
        "a_token",
        (b'CONNECT {"verbose":false,"auth_token":"s3cr"}\r\n' + PING, PONG),
        config="authorization { token: s3cr }",
    ),
    one(
        "a_token_is_no_password",
        (b'CONNECT {"verbose":false,"pass":"s3cr"}\r\n', b"-ERR 'Authorization Violation'\r\n" + EOF),
        config="authorization { token: s3cr }",
    ),
    one(
        "others_enter_beside_system_users",
        (b'CONNECT {"verbose":false}\r\n' + PING, PONG),
        config=SYSTEM_ONLY,
    ),
    one(
        "system_users_need_their_password",
        (login("sys").replace(b'"pass":"sys"', b'"pass":"x"'), b"-ERR 'Authorization Violation'\r\n" + EOF),
        config=SYSTEM_ONLY,
    ),
    one(
        "no_auth_user_without_connect",
        (b"PING\r\nSUB a 1\r\n", PONG + OK),
        config=USERS.replace("timeout: 1", "timeout: 2") + "no_auth_user: f",
    ),
    one(
        "no_auth_user_is_not_for_wrong_credentials",
        (login("f").replace(b'"pass":"f"', b'"pass":"x"'), b"-ERR 'Authorization Violation'\r\n" + EOF),
        config=USERS.replace("timeout: 1", "timeout: 2") + "no_auth_user: f",
    ),
    Script(
        "accounts_do_not_hear_each_other",
        (
            Step(login("a") + b"SUB > 1\r\n" + PING, PONG, "a"),
            Step(login("b") + b"SUB x 1\r\nPUB x 1\r\ny\r\n" + PING, b"MSG x 1 1\r\ny\r\n" + PONG, "b"),
            Step(PING, PONG, "a"),
        ),
        ACCOUNTS,
    ),
]

SCRIPTS: list[Script] = PARSER + CONNECTING + MESSAGES + LIMITED + AUTHORIZED + LOGINS
