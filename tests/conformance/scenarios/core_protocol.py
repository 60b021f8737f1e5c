"""The client protocol byte by byte: what answers what, and which mistakes end a connection."""

from headrace.tools.oracle import Lab, scenario


@scenario()
async def the_greeting_tells_who_the_server_is(lab: Lab) -> None:
    client = await lab.raw_silent()
    lab.note("greeting", await client.frame())
    client.send(b'CONNECT {"verbose":false,"protocol":1}\r\nPING\r\n')
    lab.note("first PONG", await client.frames(2))
    client.send(b"PING\r\n")
    lab.note("second PONG", await client.frames(1))


@scenario()
async def an_old_client_gets_no_second_info(lab: Lab) -> None:
    client = await lab.raw_greeted()
    client.send(b'CONNECT {"verbose":false,"protocol":0}\r\nPING\r\nPING\r\n')
    lab.note("two PINGs", await client.frames(2))
    lab.note("then", await client.quiet())


@scenario()
async def verbose_clients_are_told_ok(lab: Lab) -> None:
    client = await lab.raw_greeted()
    client.send(b"CONNECT {}\r\nSUB a 1\r\nSUB a 1\r\nPUB a 1\r\nx\r\nUNSUB 1\r\nUNSUB 99\r\nPING\r\n")
    lab.note("answers", await client.frames(8))


@scenario()
async def operations_are_case_insensitive_and_blanks_are_free(lab: Lab) -> None:
    client = await lab.raw()
    client.send(b"sub  a\t 1\r\nPuB   a \t 2\r\nhi\r\nping\r\nPINGxx\r\nsub b 2\npub b 1\r\ny\r\n+OK\r\n")
    lab.note("answers", await client.until_pong())
    lab.note("more", await client.frames(2, 1))


@scenario()
async def a_repeated_sid_keeps_the_first_subscription(lab: Lab) -> None:
    client = await lab.raw()
    client.send(b"SUB a 1\r\nSUB b 1\r\nPUB a 1\r\nx\r\nPUB b 1\r\ny\r\n")
    lab.note("delivered", await client.until_pong())


@scenario()
async def unsub_counts_from_the_beginning_of_the_subscription(lab: Lab) -> None:
    client = await lab.raw()
    client.send(b"SUB a 1\r\nPUB a 1\r\n1\r\nPUB a 1\r\n2\r\nUNSUB 1 3\r\nPUB a 1\r\n3\r\nPUB a 1\r\n4\r\n")
    lab.note("limit above what was delivered", await client.until_pong())
    client.send(b"SUB a 2\r\nPUB a 1\r\n5\r\nPUB a 1\r\n6\r\nUNSUB 2 1\r\nPUB a 1\r\n7\r\n")
    lab.note("limit below what was delivered", await client.until_pong())
    client.send(b"SUB a 3\r\nUNSUB 3 5\r\nPUB a 1\r\n8\r\nUNSUB 3\r\nPUB a 1\r\n9\r\n")
    lab.note("removed before its limit", await client.until_pong())


@scenario()
async def no_responders_needs_a_subscription_to_the_reply(lab: Lab) -> None:
    client = await lab.raw()
    client.send(b"PUB svc inbox.1 0\r\n\r\n")
    lab.note("without subscription", await client.until_pong())
    client.send(b"SUB inbox.* 7\r\nPUB svc inbox.1 0\r\n\r\n")
    lab.note("with subscription", await client.until_pong())
    quiet = await lab.raw(no_responders=False)
    quiet.send(b"SUB inbox.* 7\r\nPUB svc inbox.1 0\r\n\r\n")
    lab.note("not asked for", await quiet.until_pong())


@scenario()
async def bad_subjects_are_refused_and_the_connection_stays(lab: Lab) -> None:
    client = await lab.raw()
    for subject in ("a..b", ".a", "a.", "a.>.b", ">>", "foo*", "a.*b"):
        client.send(f"SUB {subject} 1\r\nUNSUB 1\r\n".encode())
        lab.note(f"SUB {subject}", await client.until_pong())


@scenario()
async def pedantic_clients_are_told_of_bad_publish_subjects(lab: Lab) -> None:
    client = await lab.raw(pedantic=True)
    client.send(b"SUB a.* 1\r\nPUB a.* 1\r\nx\r\nPUB a..b 1\r\ny\r\n")
    lab.note("answers", await client.until_pong())


@scenario()
async def mistakes_that_end_the_connection(lab: Lab) -> None:
    mistakes = (
        b"NONSENSE\r\n",
        b"\r\n",
        b"PUB\r\n",
        b"PUB a\r\n",
        b"PUB a x\r\n",
        b"PUB a -1\r\n",
        b"PUB a b c 1\r\n",
        b"PUB a 1\r\nxx\r\n",
        b"SUB a\r\n",
        b"SUB a b c d\r\n",
        b"UNSUB\r\n",
        b"HPUB a 5 3\r\n",
        b"MSG a 1 0\r\n\r\n",
        b"CONNECT {\r\n",
        b'CONNECT {"verbose":1}\r\n',
        b'CONNECT {"protocol":7}\r\n',
        b'CONNECT {"no_responders":true,"headers":false}\r\n',
        b"PUB a 1048577\r\n",
        b"SUB " + b"a" * 5000 + b" 1\r\n",
        b"SUB " + b"a" * 5000,
        b"-ERR 'x'\r\n",
    )
    for mistake in mistakes:
        client = await lab.raw()
        client.send(mistake)
        lab.note(mistake[:40].decode(), await client.until_closed())


@scenario()
async def headers_without_support_end_the_connection(lab: Lab) -> None:
    client = await lab.raw(headers=False, no_responders=False)
    client.send(b"HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n")
    lab.note("HPUB", await client.until_closed())


@scenario()
async def a_control_line_of_4096_bytes_is_taken(lab: Lab) -> None:
    client = await lab.raw()
    subject = "s" * 4094
    client.send(f"SUB {subject} 1\r\n".encode())
    lab.note("SUB", await client.until_pong())


@scenario()
async def output_before_an_error_is_still_sent(lab: Lab) -> None:
    client = await lab.raw()
    client.send(b"SUB a 1\r\nPUB a 2\r\nhi\r\nBOOM\r\nPUB a 2\r\nno\r\n")
    lab.note("all that came", await client.until_closed())


@scenario()
async def messages_split_at_every_byte_are_the_same(lab: Lab) -> None:
    client = await lab.raw()
    text = (
        b"SUB a 1\r\nPUB a re 5\r\nhello\r\nHPUB a 20 22\r\nNATS/1.0\r\nkey: v\r\n\r\nhi\r\nPUB b 0\r\n\r\n"
    )
    frames = []
    for index in range(len(text)):
        client.send(text[index : index + 1])
        if index % 8 == 0:
            frames += await client.quiet(0.002)
    lab.note("delivered", frames + await client.until_pong())


@scenario()
async def a_second_connect_drops_the_subscriptions(lab: Lab) -> None:
    client = await lab.raw()
    client.send(b"SUB a 1\r\n")
    await client.until_pong()
    client.send(b'CONNECT {"verbose":false}\r\nPUB a 1\r\nx\r\n')
    lab.note("after CONNECT", await client.until_pong())


@scenario()
async def reserved_subjects_are_refused(lab: Lab) -> None:
    client = await lab.raw()
    client.send(b"PUB a $JS.ACK.x 0\r\n\r\nPUB a _R_.x 0\r\n\r\nPUB $SYS.foo 0\r\n\r\nSUB a _sys_ 1\r\n")
    lab.note("answers", await client.until_pong())


@scenario(config='ping_interval: "150ms"\nping_max: 2', shares_server=False)
async def a_silent_client_is_stale_after_its_pings(lab: Lab) -> None:
    client = await lab.raw()
    client.answers_pings = False
    lab.note("PINGs, then the end", await client.until_closed())


@scenario(config="max_payload: 100\nmax_control_line: 64\nmax_subs: 2", shares_server=False)
async def configured_limits_hold(lab: Lab) -> None:
    client = await lab.raw_silent()
    lab.note("greeting", await client.frame())
    client.send(b'CONNECT {"verbose":false}\r\nSUB a 1\r\nSUB b 2\r\nSUB c 3\r\n')
    lab.note("a third subscription", await client.until_pong())
    client.send(b"PUB a 101\r\n")
    lab.note("too large", await client.until_closed())
    other = await lab.raw_greeted()
    other.send(b"SUB " + b"x" * 70 + b" 1\r\n")
    lab.note("too long", await other.until_closed())


@scenario(config="max_connections: 2", shares_server=False)
async def one_connection_too_many_is_told_so(lab: Lab) -> None:
    await lab.raw()
    await lab.raw()
    third = await lab.raw_greeted()
    lab.note("third", await third.until_closed())
