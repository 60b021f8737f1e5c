"""What an engine does with bytes, beyond what any split shows; runs on every engine there is."""

from collections.abc import Callable

import pytest

from core_lab import Collector, EngineLab, engine_factories
from headrace.core import errors
from headrace.core.base.message import View
from headrace.core.engine.interface import (
    RESUME_SIZE,
    STALL_SIZE,
    Connect,
    Gathered,
    NotConnected,
    Outcome,
    PeerError,
    PeerInfo,
    Phase,
    Pinged,
    PublishRefused,
    Refused,
)
from headrace.core.options import Permissions, SubjectRules

FACTORIES = engine_factories()
Lab = Callable[..., EngineLab]
BLOCK = b"NATS/1.0\r\nA: b\r\n\r\n"


@pytest.fixture(params=FACTORIES)
def make(request: pytest.FixtureRequest) -> Lab:
    return lambda **setup: EngineLab(FACTORIES[request.param], **setup)


@pytest.fixture
def lab(make: Lab) -> EngineLab:
    return make()


def view(sequence: int, payload: bytes = b"x", headers: bytes = b"") -> View:
    return View(sequence, 0, b"stored.%d" % sequence, headers, payload)


# delivery


def test_a_message_reaches_every_subscription_of_a_connection_in_order_of_age(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB a 1\r\nSUB * 2\r\nSUB a 3\r\nPUB a 1\r\nx\r\nPUB a 1\r\ny\r\n")
    lines = [line.split(b" ")[2] for line in lab.got(client).split(b"\r\n") if line.startswith(b"MSG")]
    assert lines == [b"1", b"2", b"3"] * 2


def test_a_queue_group_delivers_each_message_to_one_member_across_its_patterns(lab: EngineLab) -> None:
    members = [lab.open() for _ in range(4)]
    for member in members:
        lab.send(member, b"SUB job.* workers 1\r\n" if member.id % 2 else b"SUB job.a workers 1\r\n")
    publisher = lab.open()
    lab.send(publisher, b"PUB job.a 1\r\nx\r\n" * 400)
    shares = [member.out_messages for member in members]
    assert sum(shares) == 400
    assert all(50 < share < 150 for share in shares)


def test_two_queue_groups_each_get_a_copy_and_plain_subscriptions_too(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB a q1 1\r\nSUB a q2 2\r\nSUB a 3\r\nPUB a 0\r\n\r\n")
    assert client.out_messages == 3


def test_a_member_that_cannot_take_a_message_leaves_it_to_the_next(lab: EngineLab) -> None:
    deaf = lab.open(echo=False)
    other = lab.open()
    lab.send(deaf, b"SUB a q 1\r\n")
    lab.send(other, b"SUB a q 1\r\n")
    lab.send(deaf, b"PUB a 0\r\n\r\n" * 20)
    assert (deaf.out_messages, other.out_messages) == (0, 20)


def test_headers_are_stripped_for_who_did_not_ask_for_them(lab: EngineLab) -> None:
    plain = lab.open(headers=False)
    headed = lab.open()
    for client in (plain, headed):
        lab.send(client, b"SUB a 1\r\nSUB a q%d 2\r\n" % client.id)
    lab.send(headed, b"HPUB a r %d %d\r\n%bhi\r\n" % (len(BLOCK), len(BLOCK) + 2, BLOCK))
    assert lab.got(plain) == b"MSG a 1 r 2\r\nhi\r\nMSG a 2 r 2\r\nhi\r\n"
    assert lab.got(headed).startswith(
        b"HMSG a 1 r %d %d\r\n%bhi\r\nHMSG a 2" % (len(BLOCK), len(BLOCK) + 2, BLOCK)
    )
    assert plain.out_bytes == 4


def test_a_run_of_messages_with_headers_is_stripped_one_by_one(lab: EngineLab) -> None:
    plain = lab.open(headers=False)
    publisher = lab.open()
    lab.send(plain, b"SUB a 1\r\n")
    lab.send(publisher, b"HPUB a %d %d\r\n%bhi\r\n" % (len(BLOCK), len(BLOCK) + 2, BLOCK) * 6)
    assert lab.got(plain) == b"MSG a 1 2\r\nhi\r\n" * 6


def test_a_header_block_of_size_zero_makes_an_ordinary_message(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB a 1\r\n" + b"HPUB a 0 2\r\nhi\r\n" * 3 + b"HPUB a r 0 2\r\nhi\r\n")
    assert lab.got(client) == b"MSG a 1 2\r\nhi\r\n" * 3 + b"MSG a 1 r 2\r\nhi\r\n"


def test_a_subscription_ends_with_its_last_message_even_inside_a_run(lab: EngineLab) -> None:
    client = lab.open()
    other = lab.open()
    lab.send(client, b"SUB a 1\r\nUNSUB 1 5\r\n")
    lab.send(other, b"SUB a 1\r\n")
    lab.send(lab.open(), b"PUB a 1\r\nx\r\n" * 8)
    assert (client.out_messages, other.out_messages) == (5, 8)
    assert client.subscription_count == 0


def test_unsub_counts_what_was_delivered_before(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB a 1\r\nPUB a 0\r\n\r\nPUB a 0\r\n\r\nUNSUB 1 2\r\n")
    assert client.subscription_count == 0


def test_a_sid_in_use_keeps_its_first_subject(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB a 1\r\nSUB b 1\r\nPUB b 0\r\n\r\nPUB a 0\r\n\r\n")
    assert lab.got(client) == b"MSG a 1 0\r\n\r\n"


def test_echo_off_spares_the_publisher_its_own_messages(lab: EngineLab) -> None:
    client = lab.open(echo=False)
    other = lab.open()
    for one in (client, other):
        lab.send(one, b"SUB a 1\r\n")
    lab.send(client, b"PUB a 0\r\n\r\n" * 5)
    assert (client.out_messages, other.out_messages) == (0, 5)


def test_accounts_do_not_hear_each_other(lab: EngineLab) -> None:
    ours = lab.open()
    theirs = lab.open(account="OTHER")
    lab.send(ours, b"SUB > 1\r\n")
    lab.send(theirs, b"SUB > 1\r\nPUB a 0\r\n\r\n")
    assert (ours.out_messages, theirs.out_messages) == (0, 1)


def test_a_subject_with_an_empty_token_reaches_nobody(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB > 1\r\nPUB a..b 0\r\n\r\nPUB .a 0\r\n\r\nPUB a. 0\r\n\r\n")
    assert lab.got(client) == b""


def test_wide_fan_out_stays_right_when_subscriptions_come_and_go(lab: EngineLab) -> None:
    publisher = lab.open()
    clients = [lab.open() for _ in range(50)]
    for client in clients:
        lab.send(client, b"SUB a.> 1\r\n")
    lab.send(publisher, b"PUB a.b 0\r\n\r\n" * 3)
    lab.send(clients[0], b"UNSUB 1\r\n")
    lab.send(publisher, b"PUB a.b 0\r\n\r\n" * 3)
    assert [client.out_messages for client in clients] == [3] + [6] * 49


# no responders


def test_a_request_that_nobody_takes_is_answered_with_503(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB inbox.* 5\r\nPUB svc inbox.1 0\r\n\r\n")
    assert lab.got(client) == b"HMSG inbox.1 5 35 35\r\nNATS/1.0 503\r\nNats-Subject: svc\r\n\r\n\r\n"
    assert client.out_messages == 0


def test_a_requester_that_does_not_listen_is_told_nothing(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(lab.open(), b"SUB inbox.1 1\r\n")
    lab.send(client, b"SUB inbox.1 q 1\r\nPUB svc inbox.1 0\r\n\r\n")
    assert lab.got(client) == b""


@pytest.mark.parametrize("repeated", [1, 5])
def test_a_sink_answers_for_the_subjects_it_names(lab: EngineLab, repeated: int) -> None:
    client = lab.open()
    lab.engine.add_sink("$G", b"api.>", Collector(), answers=lambda subject: subject == b"api.known")
    lab.send(client, b"SUB r 1\r\n" + b"PUB api.known r 0\r\n\r\n" * repeated)
    assert lab.got(client) == b""
    lab.send(client, b"PUB api.other r 0\r\n\r\n" * repeated)
    assert lab.got(client).count(b"503") == repeated


# refusals


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"PUB a b c 1\r\n", errors.MalformedArguments),
        (b"PUB a -1\r\n", errors.MalformedArguments),
        (b"PUB a 1234567890\r\n", errors.MalformedArguments),
        (b"PUB a \r\n", errors.MalformedArguments),
        (b"PUB\r\n", errors.UnknownOperation),
        (b"UNSUB\r\n", errors.UnknownOperation),
        (b"UNSUB 1 2 3\r\n", errors.MalformedArguments),
        (b"SUB a\r\n", errors.MalformedArguments),
        (b"HPUB a 5\r\n", errors.MalformedArguments),
        (b"HPUB a 5 2\r\n", errors.MalformedArguments),
        (b"MSG a 1 1\r\n", errors.UnknownOperation),
        (b"Q", errors.UnknownOperation),
        (b"PUX", errors.UnknownOperation),
        (b"\r\n", errors.UnknownOperation),
        (b"PUB a 1048577\r\n", errors.MaximumPayloadViolation),
        (b"PUB a 1\r\nxy", errors.UnknownOperation),
        (b"PUB a 1\r\nx\n", errors.UnknownOperation),
        (b"SUB " + b"a" * 4095 + b" 1\r\n", errors.ControlLineExceeded),
        (b"SUB " + b"a" * 4097, errors.ControlLineExceeded),
        (b"CONNECT " + b"a" * 4097, errors.ControlLineExceeded),
        (b"PUB " + b"a" * 4097 + b" 1\r\nx\r\n", errors.ControlLineExceeded),
    ],
)
def test_a_broken_protocol_ends_the_reading(lab: EngineLab, line: bytes, error: type[Exception]) -> None:
    client = lab.open()
    events = lab.send(client, b"PING\r\n" + line + b"PING\r\nPING\r\n")
    assert [type(event.error) for event in events if isinstance(event, Refused)] == [error]
    assert lab.got(client) == b"PONG\r\n"
    assert not lab.send(client, b"PING\r\n")


def test_an_argument_of_the_longest_size_is_taken(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB " + b"a" * 4094 + b" 1\r\n")
    lab.send(client, b"SUB " + b"b" * 4094 + b" 2\r")
    lab.send(client, b"\n")
    assert client.subscription_count == 2


def test_a_long_control_line_is_refused_also_where_its_like_was_planned(lab: EngineLab) -> None:
    client = lab.open(max_control_line=20)
    events = lab.send(client, b"PUB short 1\r\nx\r\n" * 3 + b"PUB " + b"l" * 30 + b" 1\r\nx\r\n")
    assert [str(event.error) for event in events if isinstance(event, Refused)] == [
        "maximum control line exceeded"
    ]
    assert client.in_messages == 3


def test_headers_need_to_be_negotiated(lab: EngineLab) -> None:
    client = lab.open(headers=False)
    (event,) = lab.send(client, b"HPUB a 0 0\r\n\r\n")
    assert isinstance(event, Refused)
    assert isinstance(event.error, errors.HeadersNotNegotiated)


def test_subscription_refusals_come_in_the_references_order(make: Lab) -> None:
    lab = make(max_sub_tokens=2)
    rules = Permissions(subscribe=SubjectRules(None, ("no.>",)))
    client = lab.open(permissions=rules, max_subscriptions=1)
    lab.send(
        client,
        b"SUB no.b.c 1\r\nSUB a.b.c 1\r\nSUB a..c 1\r\nSUB .c 1\r\nSUB ok 1\r\nSUB .c 2\r\nSUB a _sys_ 2\r\n",
    )
    assert lab.got(client).split(b"\r\n") == [
        b"-ERR 'Permissions Violation for Subscription to \"no.b.c\"'",
        b"-ERR 'Permissions Violation for Subscription to \"a.b.c\", too many tokens'",
        b"-ERR 'Permissions Violation for Subscription to \"a..c\", too many tokens'",
        b"-ERR 'Invalid Subject'",
        b"-ERR 'maximum subscriptions exceeded'",
        b'-ERR \'Permissions Violation for Subscription to "a" using queue "_sys_"\'',
        b"",
    ]


def test_an_account_may_limit_its_subscriptions(lab: EngineLab) -> None:
    one = lab.open(max_account_subscriptions=2)
    two = lab.open(max_account_subscriptions=2)
    lab.send(one, b"SUB a 1\r\nSUB b 2\r\n")
    lab.send(two, b"SUB a 1\r\n")
    assert lab.got(two) == b"-ERR 'maximum subscriptions exceeded'\r\n"
    lab.send(one, b"UNSUB 1\r\n")
    lab.send(two, b"SUB a 1\r\n")
    assert lab.got(two) == b""


def test_a_refused_publish_is_handed_out_whole_and_stops_the_reading(lab: EngineLab) -> None:
    client = lab.open(permissions=Permissions(publish=SubjectRules(("ok",))))
    lab.send(client, b"SUB ok 1\r\n")
    events = lab.engine.receive(
        client, b"HPUB no r %d %d\r\n%bhi\r\nPUB ok 0\r\n\r\n" % (len(BLOCK), len(BLOCK) + 2, BLOCK)
    )
    assert list(events) == [PublishRefused(b"no", b"r", BLOCK, b"hi")]
    assert lab.got(client) == b""
    assert not lab.engine.resume(client)
    assert lab.got(client) == b"MSG ok 1 0\r\n\r\n"
    assert client.in_messages == 2


def test_a_publish_on_behalf_of_a_client_is_routed_without_asking(lab: EngineLab) -> None:
    client = lab.open(verbose=True, permissions=Permissions(publish=SubjectRules(())))
    lab.send(client, b"SUB a 1\r\n")
    lab.got(client)
    lab.settle(lab.engine.publish_from(client, b"a", b"", b"", b"x"))
    assert lab.got(client) == b"+OK\r\nMSG a 1 1\r\nx\r\n"


def test_reserved_subjects_are_refused_even_to_those_who_may_all(lab: EngineLab) -> None:
    client = lab.open()
    system = lab.open(account="$SYS")
    refused = [type(event) for event in lab.send(client, b"PUB _GR_.x 0\r\n\r\nPUB $NRG.x 0\r\n\r\n")]
    assert refused == [PublishRefused, PublishRefused]
    assert not lab.send(system, b"PUB $NRG.x 0\r\n\r\n")


def test_a_reserved_reply_is_refused_and_the_message_dropped(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB a 1\r\n" + b"PUB a r 0\r\n\r\n" * 3)
    lab.got(client)
    lab.send(client, b"PUB a $JS.ACK.x 0\r\n\r\n" * 2)
    assert lab.got(client) == b"-ERR 'Permissions Violation for Publish with Reply of \"$JS.ACK.x\"'\r\n" * 2


def test_a_denied_part_of_a_wildcard_is_not_delivered(lab: EngineLab) -> None:
    rules = Permissions(subscribe=SubjectRules(None, ("a.secret",)))
    client = lab.open(permissions=rules)
    lab.send(client, b"SUB a.* 1\r\n" + b"PUB a.secret 0\r\n\r\n" * 3 + b"PUB a.open 0\r\n\r\n" * 3)
    assert client.out_messages == 3
    lab.engine.forget_verdicts(rules)
    lab.send(client, b"PUB a.secret 0\r\n\r\n")
    assert client.out_messages == 3


def test_pedantic_clients_are_told_and_the_message_goes_on(lab: EngineLab) -> None:
    client = lab.open(pedantic=True)
    lab.send(client, b"SUB > 1\r\n" + b"PUB a.* 0\r\n\r\n" * 2)
    assert lab.got(client) == b"-ERR 'Invalid Publish Subject'\r\nMSG a.* 1 0\r\n\r\n" * 2


# events


def test_connect_info_errors_and_the_awaited_ping_are_events(lab: EngineLab) -> None:
    client = lab.open(awaits_ping=True)
    events = lab.send(client, b"CONNECT {}\r\nconnect{}\r\nINFO {}\r\n-ERR 'x'\r\nPING\r\nPING\r\n")
    assert events == [Connect(b"{}"), Connect(b"{}"), PeerInfo(b"{}"), PeerError(b"'x'"), Pinged()]
    assert lab.got(client) == b"PONG\r\nPONG\r\n"


def test_nothing_but_connect_is_read_while_it_is_awaited(lab: EngineLab) -> None:
    client = lab.open(phase=Phase.AWAITING_CONNECT)
    assert list(lab.engine.receive(client, b"P")) == [NotConnected()]
    client.phase = Phase.OPEN
    assert not lab.engine.resume(client)
    lab.send(client, b"ING\r\n")
    assert lab.got(client) == b"PONG\r\n"


def test_what_came_before_a_barrier_is_reported_before_it(lab: EngineLab) -> None:
    sink = Collector()
    lab.engine.add_sink("$G", b"s", sink)
    client = lab.open()
    events = lab.engine.receive(client, b"PUB s 1\r\nx\r\nPUB s 1\r\ny\r\nCONNECT {}\r\nPUB s 1\r\nz\r\n")
    assert [type(event) for event in events] == [Gathered, Connect]
    (rest,) = lab.engine.resume(client)
    assert isinstance(rest, Gathered)
    assert [message.payload for message in rest.batch] == [b"z"]


def test_a_pong_settles_all_pings(lab: EngineLab) -> None:
    client = lab.open(pings_out=2)
    lab.scheduler.advance(5)
    lab.send(client, b"PONG\r\n")
    assert (client.pings_out, client.last_pong_ns) == (0, 5)


def test_a_closed_connection_is_deaf_and_forgotten(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB a 1\r\n")
    lab.engine.close(client)
    lab.engine.close(client)
    assert lab.engine.subscription_count == 0
    assert not lab.engine.receive(client, b"PING\r\n")
    assert lab.got(client) == b""


# sinks


def test_a_sink_gets_messages_in_order_with_all_their_parts(lab: EngineLab) -> None:
    sink = Collector()
    lab.engine.add_sink("$G", b"s.*", sink)
    client = lab.open()
    lab.send(
        client,
        b"PUB s.a r 2\r\nhi\r\nHPUB s.b %d %d\r\n%byo\r\nPUB s.a 0\r\n\r\n"
        % (len(BLOCK), len(BLOCK) + 2, BLOCK),
    )
    assert sink.messages == [
        (b"s.a", b"r", b"", b"hi", client.id),
        (b"s.b", b"", BLOCK, b"yo", client.id),
        (b"s.a", b"", b"", b"", client.id),
    ]
    (batch,) = sink.batches
    assert not batch.bare
    assert batch.size == 3 * 3 + len(BLOCK) + 4


def test_two_registrations_of_one_sink_bring_each_message_once(lab: EngineLab) -> None:
    sink = Collector()
    first = lab.engine.add_sink("$G", b"s.>", sink)
    second = lab.engine.add_sink("$G", b"s.a", sink)
    client = lab.open()
    lab.send(client, b"PUB s.a 0\r\n\r\n")
    first.close()
    first.close()
    lab.send(client, b"PUB s.a 0\r\n\r\nPUB s.b 0\r\n\r\n")
    second.close()
    lab.send(client, b"PUB s.a 0\r\n\r\n")
    assert [message.subject for message in sink.messages] == [b"s.a", b"s.a"]


def test_a_sink_in_a_queue_group_shares_with_its_members(lab: EngineLab) -> None:
    sink = Collector()
    lab.engine.add_sink("$G", b"s", sink, queue=b"q")
    client = lab.open()
    lab.send(client, b"SUB s q 1\r\n" + b"PUB s 0\r\n\r\n" * 100)
    assert len(sink.messages) + client.out_messages == 100
    assert len(sink.messages) > 20


def test_the_servers_own_messages_reach_clients_and_sinks(lab: EngineLab) -> None:
    sink = Collector()
    lab.engine.add_sink("$G", b"a", sink)
    client = lab.open()
    lab.send(client, b"SUB a 1\r\n")
    lab.settle(lab.engine.publish("$G", b"a", b"r", BLOCK, b"x"))
    assert lab.got(client) == b"HMSG a 1 r %d %d\r\n%bx\r\n" % (len(BLOCK), len(BLOCK) + 1, BLOCK)
    assert sink.messages == [(b"a", b"r", BLOCK, b"x", 0)]


def test_a_batch_is_answered_with_a_number_for_each_message(lab: EngineLab) -> None:
    sink = Collector()
    lab.engine.add_sink("$G", b"s", sink)
    client = lab.open()
    lab.send(client, b"SUB r.* 1\r\nPUB s r.1 0\r\n\r\nPUB s 0\r\n\r\nPUB s r.3 0\r\n\r\n")
    lab.settle(lab.engine.answer("$G", sink.batches[0], b"<", 10, b">"))
    assert lab.got(client) == b"MSG r.1 1 4\r\n<10>\r\nMSG r.3 1 4\r\n<12>\r\n"


# stored messages


def test_stored_messages_show_their_own_subject_and_reply(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB inbox 1\r\n")
    done = lab.engine.deliver("$G", b"inbox", [view(1), view(2, headers=BLOCK)], [b"ack.1", b""])
    assert (done.count, done.outcome) == (2, Outcome.DELIVERED)
    assert lab.got(client) == b"MSG stored.1 1 ack.1 1\r\nx\r\nHMSG stored.2 1 %d %d\r\n%bx\r\n" % (
        len(BLOCK),
        len(BLOCK) + 1,
        BLOCK,
    )


def test_stored_messages_stop_where_interest_ends(lab: EngineLab) -> None:
    client = lab.open()
    assert lab.engine.deliver("$G", b"inbox", [view(1)], [b""]).outcome is Outcome.NO_INTEREST
    lab.send(client, b"SUB inbox 1\r\nUNSUB 1 2\r\n")
    done = lab.engine.deliver("$G", b"inbox", [view(1), view(2), view(3)], [b""] * 3)
    assert (done.count, done.outcome) == (2, Outcome.NO_INTEREST)


def test_stored_messages_for_a_group_go_to_one_member(lab: EngineLab) -> None:
    clients = [lab.open() for _ in range(3)]
    for client in clients:
        lab.send(client, b"SUB inbox g 1\r\n")
    lab.send(clients[0], b"SUB inbox other 2\r\n")
    lab.engine.deliver("$G", b"inbox", [view(number) for number in range(1, 31)], [b""] * 30, queue=b"g")
    assert sum(client.out_messages for client in clients) == 30


def test_stored_messages_wait_for_room_and_are_told_of_it(lab: EngineLab) -> None:
    client = lab.open(capacity=0)
    told: list[str] = []
    lab.engine.on_room(lambda: told.append("room"))
    lab.send(client, b"SUB inbox 1\r\n")
    big = [view(number, b"z" * 100_000) for number in range(100)]
    done = lab.engine.deliver("$G", b"inbox", big, [b""] * 100)
    assert done.outcome is Outcome.NO_ROOM
    assert STALL_SIZE <= done.count * 100_000 < STALL_SIZE + 1_000_000
    assert told == []
    lab.transports[client.id].capacity = 1 << 62
    lab.engine.drained(client)
    assert told == ["room"]
    rest = lab.engine.deliver("$G", b"inbox", big[done.count :], [b""] * (100 - done.count))
    assert rest.outcome is Outcome.DELIVERED


def test_a_closing_connection_makes_room_for_those_who_waited(lab: EngineLab) -> None:
    client = lab.open(capacity=0)
    told: list[str] = []
    lab.engine.on_room(lambda: told.append("room"))
    lab.send(client, b"SUB inbox 1\r\n")
    lab.engine.deliver("$G", b"inbox", [view(1, b"z" * 100_000)] * 100, [b""] * 100)
    lab.engine.close(client)
    assert told == ["room"]


# interest


def test_interest_is_seen_by_subject_and_group(lab: EngineLab) -> None:
    client = lab.open()
    engine = lab.engine
    lab.send(client, b"SUB a.* g 1\r\n")
    assert engine.has_interest("$G", b"a.b")
    assert engine.has_interest("$G", b"a.b", b"g")
    assert not engine.has_interest("$G", b"a.b", b"other")
    assert not engine.has_interest("$G", b"b")
    assert not engine.has_interest("OTHER", b"a.b")
    lab.send(client, b"SUB a.b 2\r\n")
    assert not engine.has_interest("$G", b"a.b", b"other")


def test_a_sink_is_no_clients_interest(lab: EngineLab) -> None:
    lab.engine.add_sink("$G", b"a", Collector())
    lab.engine.add_sink("$G", b"a", Collector(), queue=b"q")
    assert not lab.engine.has_interest("$G", b"a")


def test_a_watcher_hears_of_changes_once_a_turn(lab: EngineLab) -> None:
    client = lab.open()
    heard: list[bool] = []
    watching = lab.engine.watch_interest("$G", b"a.b", heard.append)
    lab.send(client, b"SUB a.* 1\r\n")
    assert heard == []
    lab.engine.tell_watchers()
    lab.engine.tell_watchers()
    assert heard == [True]
    lab.send(client, b"SUB a.b 2\r\nUNSUB 1\r\nUNSUB 2\r\nSUB a.> 3\r\n")
    lab.engine.tell_watchers()
    assert heard == [True]
    lab.engine.close(client)
    lab.engine.tell_watchers()
    assert heard == [True, False]
    watching.close()
    watching.close()
    lab.send(lab.open(), b"SUB a.b 1\r\n")
    lab.engine.tell_watchers()
    assert heard == [True, False]


# back-pressure


def test_a_connection_above_its_pending_limit_is_named_and_gets_no_more(make: Lab) -> None:
    lab = make(max_pending=1_000_000)
    slow = lab.open(capacity=0)
    publisher = lab.open()
    lab.send(slow, b"SUB a 1\r\n")
    for _ in range(3):
        lab.engine.receive(publisher, b"PUB a 100000\r\n" + b"x" * 100_000 + b"\r\n")
    assert list(lab.engine.flush()) == []
    overflowed = []
    for _ in range(20):
        lab.engine.receive(publisher, b"PUB a 100000\r\n" + b"x" * 100_000 + b"\r\n")
        overflowed += lab.engine.flush()
    assert overflowed == [slow]
    assert slow.subscription_count == 0
    assert len(lab.transports[slow.id].data) <= 1_000_000


def test_many_subscriptions_of_one_connection_cannot_fill_the_memory(make: Lab) -> None:
    lab = make(max_pending=1_000_000)
    greedy = lab.open(capacity=0)
    lab.send(greedy, b"".join(b"SUB a %d\r\n" % number for number in range(500)))
    lab.engine.receive(lab.open(), b"PUB a 50000\r\n" + b"x" * 50_000 + b"\r\n")
    assert greedy.pending_size < 1_000_000 + STALL_SIZE
    assert list(lab.engine.flush()) == [greedy]
    assert len(lab.transports[greedy.id].data) <= 1_000_000


def test_a_publisher_to_a_slow_subscriber_is_marked(lab: EngineLab) -> None:
    slow = lab.open(capacity=0)
    publisher = lab.open()
    lab.send(slow, b"SUB a 1\r\n")
    message = b"PUB a 100000\r\n" + b"x" * 100_000 + b"\r\n"
    for _ in range(10):
        lab.send(publisher, message)
    assert not publisher.is_stalled
    for _ in range(20):
        lab.send(publisher, message)
    assert publisher.is_stalled
    publisher.is_stalled = False
    lab.transports[slow.id].capacity = 1 << 62
    lab.engine.drained(slow)
    lab.send(publisher, message)
    assert not publisher.is_stalled
    assert RESUME_SIZE < STALL_SIZE


def test_without_stalls_a_slow_subscriber_is_skipped(make: Lab) -> None:
    lab = make(max_pending=4 * 1024 * 1024, no_fast_producer_stall=True)
    slow = lab.open(capacity=0)
    other = lab.open()
    for client in (slow, other):
        lab.send(client, b"SUB a 1\r\n")
    publisher = lab.open()
    for _ in range(100):
        lab.send(publisher, b"PUB a 100000\r\n" + b"x" * 100_000 + b"\r\n")
    assert other.out_messages == 100
    assert 20 < slow.out_messages < 40
    assert lab.transports[slow.id].state == "open"


def test_a_large_message_in_small_pieces_is_put_together_once(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB a 1\r\n")
    payload = bytes(range(256)) * 4000
    data = b"PUB a %d\r\n%b\r\nPING\r\n" % (len(payload), payload)
    for start in range(0, len(data), 1000):
        lab.send(client, data[start : start + 1000])
    assert lab.got(client) == b"MSG a 1 %d\r\n%b\r\nPONG\r\n" % (len(payload), payload)


def test_a_memoryview_is_as_good_as_bytes(lab: EngineLab) -> None:
    client = lab.open()
    lab.engine.receive(client, memoryview(bytearray(b"PING\r\n")))
    assert lab.got(client) == b"PONG\r\n"


def test_replies_delivered_to_who_may_answer_them_are_noted(lab: EngineLab) -> None:
    client = lab.open(delivered_replies=[])
    lab.send(client, b"SUB a 1\r\nSUB b q 2\r\n")
    lab.send(lab.open(), b"PUB a r.1 0\r\n\r\nPUB a 0\r\n\r\nPUB b r.2 0\r\n\r\n")
    assert client.delivered_replies == [b"r.1", b"r.2"]


def test_subscriptions_are_shown_with_their_counts(lab: EngineLab) -> None:
    client = lab.open()
    lab.send(client, b"SUB a q 1\r\nSUB b 2\r\nUNSUB 2 5\r\nPUB b 0\r\n\r\n")
    first, second = lab.engine.subscriptions_of(client)
    assert (first.subject, first.queue, first.sid, first.delivered, first.delivered_max) == (
        b"a",
        b"q",
        b"1",
        0,
        0,
    )
    assert (second.delivered, second.delivered_max) == (1, 5)
    assert list(lab.engine.subscriptions()) == [first, second]
    assert lab.engine.subscription_count == 2
