"""The command `headrace-server`: what it says when it starts, and when it cannot."""

import json
import re
import socket
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from conformance.server_process import ServerProcess, run

LINE = re.compile(r"\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} \[(INF|WRN)\] .*")


def greeting(port: int, host: str = "127.0.0.1") -> dict[str, object]:
    """Connect, and give what INFO says."""
    with socket.create_connection((host, port), timeout=5) as wire, wire.makefile("rb") as lines:
        verb, _, info = lines.readline().partition(b" ")
    assert verb == b"INFO"
    return dict(json.loads(info))


def test_a_start_says_where_clients_connect_and_then_that_it_is_ready() -> None:
    with ServerProcess(["-p", "-1", "-a", "127.0.0.1", "-n", "me"]) as server:
        texts = [line.partition("] ")[2].partition("] ")[2] for line in server.lines]
        listening = next(
            at for at, text in enumerate(texts) if text.startswith("Listening for client connections on")
        )
        assert re.fullmatch(r"Listening for client connections on 127\.0\.0\.1:\d+", texts[listening])
        assert texts.index("Server is ready") > listening
        assert all(LINE.fullmatch(line) for line in server.lines)
        assert texts[0] == "Starting headrace-server"
        assert any(text.startswith("  Name:     me") for text in texts)
        assert any(re.fullmatch(r"  Engine:   (plain|compiled)", text) for text in texts)
        assert greeting(server.port())["server_name"] == "me"


def test_an_unspecified_host_takes_ipv4_and_ipv6_and_info_says_so() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with ServerProcess(["-p", "-1"]) as server:
        assert greeting(server.port())["host"] == "0.0.0.0"
        assert greeting(server.port(), "::1")["port"] == server.port()


@pytest.mark.parametrize(("advertise", "port"), [("example.com:99", 99), ("example.com", 0)])
def test_clients_are_told_the_advertised_address(advertise: str, port: int) -> None:
    with ServerProcess(["-p", "-1", "-a", "127.0.0.1", "--client_advertise", advertise]) as server:
        info = greeting(server.port())
        assert (info["host"], info["port"]) == ("example.com", port or server.port())


def test_no_connections_are_allowed_when_the_maximum_is_zero(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("listen: '127.0.0.1:-1'; max_connections: 0")
    with (
        ServerProcess(["-c", str(path)]) as server,
        socket.create_connection(("127.0.0.1", server.port()), timeout=5) as wire,
        wire.makefile("rb") as lines,
    ):
        assert lines.readline().startswith(b"INFO ")
        assert lines.readline() == b"-ERR 'maximum connections exceeded'\r\n"


def test_monitoring_is_on_loopback_and_answers_when_the_server_is_ready() -> None:
    with ServerProcess(["-p", "-1", "-m", "-1", "-a", "127.0.0.1"]) as server:
        assert "Starting http monitor on 127.0.0.1:" in server.text
        with urlopen(f"http://127.0.0.1:{server.monitor_port}/varz", timeout=5) as response:
            assert response.status == 200
            assert json.load(response)["port"] == server.port()
        with urlopen(f"http://127.0.0.1:{server.monitor_port}/healthz", timeout=5) as response:
            assert response.read() == b'{"status":"ok"}'


def test_pid_ports_and_log_files_are_written(tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ["-p", "-1", "-m", "-1", "-a", "127.0.0.1", "-P", str(tmp_path / "pid"), "-l", str(log)]
    with ServerProcess([*arguments, "--ports_file_dir", str(tmp_path)], is_ready="") as server:
        ports = tmp_path / f"headrace-server_{server.process.pid}.ports"
        deadline_s = time.monotonic() + 5
        while not ports.exists() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        listed = json.loads(ports.read_text())
        assert (tmp_path / "pid").read_text() == str(server.process.pid)
        text = log.read_text()
        found = re.search(r".+\sclient connections on\s+(\S+)", text)
        assert found is not None
        assert listed["nats"] == [f"nats://{found[1]}"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", listed["monitoring"][0])
        assert server.stop() == 0
        assert not ports.exists()
        assert server.text == ""
        assert "Server Exiting.." in log.read_text()


def test_a_configuration_file_is_used_and_flags_win_over_it(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("port: 1\nhost: 127.0.0.1\nserver_name: from_file\nwrite_deadline: 5\n")
    with ServerProcess(["-c", str(path), "-p", "-1"]) as server:
        assert greeting(server.port())["server_name"] == "from_file"
        assert f"Using configuration file: {path} (sha256:" in server.text
        assert f"{path}:4:1: invalid use of field" in server.lines[0]


def test_the_version_names_the_engine() -> None:
    done = run(["--version"])
    assert done.returncode == 0
    assert re.fullmatch(
        r"headrace-server: v\S+ \((plain|compiled) engine, compatible with NATS 2\.15\.1\)\n", done.stdout
    )


def test_help_lists_the_flags() -> None:
    done = run(["-h"])
    assert done.returncode == 0
    assert "--store_dir" in done.stdout


def refused(arguments: list[str]) -> str:
    """Run a command that cannot start; give what it says."""
    begin_s = time.monotonic()
    done = run(arguments)
    took_s = time.monotonic() - begin_s
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert took_s < 5, "a refusal takes under a second on a quiet machine"
    return done.stderr


def test_an_unknown_flag_is_refused_in_one_line() -> None:
    assert refused(["--prot", "1"]) == (
        "headrace-server: flag provided but not defined: --prot; did you mean --port? --help lists all flags\n"
    )


def test_a_feature_that_is_absent_is_refused_by_its_flag() -> None:
    said = refused(["-p", "-1", "--cluster", "nats://127.0.0.1:1"])
    assert (
        said
        == "headrace-server: flag --cluster is refused: this version of Headrace does not have clustering\n"
    )


def test_a_configuration_outside_the_grammar_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("port: 1\nhost: a b\n")
    said = refused(["-c", str(path)])
    assert said.startswith(f"headrace-server: {path}:2:9: Parse error on line 2: ")
    assert said.count("\n") == 1


def test_a_wrong_configuration_is_refused_with_place_key_and_what_is_expected(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("port: abc\n")
    assert refused(["-c", str(path)]) == (
        f"headrace-server: {path}:1:1: port: expected an integer, got the string 'abc'\n"
    )


def test_a_missing_configuration_is_refused(tmp_path: Path) -> None:
    said = refused(["-c", str(tmp_path / "none")])
    assert said == f"headrace-server: open {tmp_path / 'none'}: no such file or directory\n"


def test_a_configuration_can_be_checked_without_starting(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("port: 4222; debug: true")
    done = run(["-t", "-c", str(path)])
    assert done.returncode == 0
    assert done.stderr == (
        f"headrace-server: configuration file {path} is valid "
        "(sha256:8d697893eada17225f028a97ac0a0cfbd85dfb1fe0f606aa6f327a81bf911795)\n"
    )
    path.write_text("write_deadline: 5")
    assert "should be converted to a duration" in refused(["-t", "-c", str(path)])
    assert "must specify [-c, --config]" in refused(["-t"])


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        last = refused(["-a", "127.0.0.1", "-p", str(port)]).splitlines()[-1]
        assert f"[FTL] Error listening on port: 127.0.0.1:{port}, " in last
        assert "address already in use" in last
        assert "choose another with --port" in last
        last = refused(["-a", "127.0.0.1", "-p", "-1", "-m", str(port)]).splitlines()[-1]
        assert f"[FTL] Can't start monitoring: can't listen to the monitor port: 127.0.0.1:{port}: " in last


def test_an_address_that_is_none_is_refused() -> None:
    last = refused(["-p", "-1", "-a", "999.999.999.999"]).splitlines()[-1]
    assert "[FTL] Error listening on port: 999.999.999.999:-1, " in last


def test_a_log_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    said = refused(["-p", "-1", "-l", str(tmp_path / "none" / "log")])
    assert "cannot open log file" in said
    assert "give another with --log" in said


def test_a_store_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    last = refused(["-p", "-1", "-a", "127.0.0.1", "-js", "-sd", str(tmp_path / "f")]).splitlines()[-1]
    assert re.search(r"\[FTL\] (storage directory is not a|could not create storage) directory", last)
    assert "give another with --store_dir" in last


def test_a_store_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    below = str(tmp_path / "f" / "below")
    last = refused(["-p", "-1", "-a", "127.0.0.1", "-js", "-sd", below]).splitlines()[-1]
    assert re.search(r"\[FTL\] (storage directory is not a|could not create storage) directory", last)


def test_a_store_directory_without_jetstream_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with ServerProcess(["-p", "-1", "-a", "127.0.0.1", "--store_dir", str(tmp_path / "f")]) as server:
        assert "jetstream" not in greeting(server.port())


def test_a_store_that_another_server_uses_is_refused(tmp_path: Path) -> None:
    arguments = ["-p", "-1", "-a", "127.0.0.1", "-js", "-sd", str(tmp_path)]
    with ServerProcess(arguments) as server:
        assert f'  Store Directory: "{tmp_path / "headrace"}"' in server.text
        assert greeting(server.port())["jetstream"] is True
        last = refused(arguments).splitlines()[-1]
        assert "[FTL] " in last
        assert str(tmp_path) in last


def test_an_event_loop_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_LOOP", "asyncio")
    with ServerProcess(["-p", "-1", "-a", "127.0.0.1"]) as server:
        assert greeting(server.port())["port"] == server.port()
        assert server.stop() == 0
    monkeypatch.setenv("HEADRACE_LOOP", "trio")
    assert refused(["-p", "-1"]) == "headrace-server: HEADRACE_LOOP='trio': expected 'asyncio' or 'uvloop'\n"


def test_a_start_imports_only_what_it_uses() -> None:
    with ServerProcess(["-p", "-1", "-a", "127.0.0.1"]) as server:
        maps = Path(f"/proc/{server.process.pid}/maps")
        if not maps.exists():
            pytest.skip("this platform does not show what a process has mapped")
        assert "pydantic_core" not in maps.read_text()
