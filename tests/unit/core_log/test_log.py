"""The form of the log's lines, and that logging never does harm."""

import logging
from pathlib import Path

import pytest

from headrace.core.base.clock import VirtualScheduler
from headrace.core.log import FATAL, TRACE, FileSink, MemorySink, close_log, make_logger, reopen_log


def test_a_line_has_process_time_label_and_text() -> None:
    sink = MemorySink()
    log = make_logger(sink, VirtualScheduler(1_700_000_000_123_456_789), process_id=7, in_utc=True)
    log.info("Listening on %s", "h:1")
    log.log(FATAL, "end")
    assert sink.lines == [
        "[7] 2023/11/14 22:13:20.123456 [INF] Listening on h:1\n",
        "[7] 2023/11/14 22:13:20.123456 [FTL] end\n",
    ]


def test_the_time_can_be_left_out() -> None:
    sink = MemorySink()
    make_logger(sink, process_id=7, with_time=False).error("x")
    assert sink.lines == ["[7] [ERR] x\n"]


@pytest.mark.parametrize(
    ("is_debug", "is_trace", "labels"),
    [
        (False, False, ["WRN"]),
        (True, False, ["DBG", "WRN"]),
        (False, True, ["TRC", "WRN"]),
        (True, True, ["TRC", "DBG", "WRN"]),
    ],
)
def test_debug_and_trace_are_wanted_each_for_itself(
    is_debug: bool, is_trace: bool, labels: list[str]
) -> None:
    sink = MemorySink()
    log = make_logger(sink, is_debug=is_debug, is_trace=is_trace)
    log.log(TRACE, "t")
    log.debug("d")
    log.warning("w")
    assert [line.split("[")[2][:3] for line in sink.lines] == labels


def test_an_entry_cannot_forge_another() -> None:
    sink = MemorySink()
    make_logger(sink, process_id=7, with_time=False).info("a\n[7] [INF] b\r")
    assert sink.lines == ["[7] [INF] a\\n[7] [INF] b\\r\n"]


def test_an_exception_stays_on_its_line() -> None:
    sink = MemorySink()
    log = make_logger(sink)
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    [line] = sink.lines
    assert "ValueError: why" in line
    assert line.count("\n") == 1


class BrokenSink(MemorySink):
    def write(self, line: str) -> None:
        raise OSError(28, "No space left on device")

    def reopen(self) -> None:
        raise OSError(2, "No such file or directory")


def test_a_line_that_cannot_be_written_is_dropped() -> None:
    log = make_logger(BrokenSink())
    log.info("x")
    reopen_log(log)
    assert [getattr(handler, "dropped", None) for handler in log.handlers] == [2]


def test_a_file_is_appended_to_and_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    log = make_logger(FileSink(str(path)), process_id=7, with_time=False)
    log.info("one")
    path.rename(tmp_path / "old")
    reopen_log(log)
    log.info("two")
    close_log(log)
    log.info("lost")
    assert (tmp_path / "old").read_text() == "before\n[7] [INF] one\n"
    assert path.read_text() == "[7] [INF] File log re-opened\n[7] [INF] two\n"


def test_loggers_are_apart_and_registered_nowhere() -> None:
    one, other = MemorySink(), MemorySink()
    make_logger(one).info("1")
    make_logger(other).info("2")
    assert (len(one.lines), len(other.lines)) == (1, 1)
    assert "headrace" not in logging.Logger.manager.loggerDict or not logging.getLogger("headrace").handlers


def test_a_log_file_that_is_full_is_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    clock = VirtualScheduler()
    sink = FileSink(str(path), size_max=10, clock=clock)
    for line in ("12345\n", "6\n", "7\n"):
        sink.write(line)
        clock.advance(1_000_000_000)
    sink.close()
    assert path.read_text() == "7\n"
    (moved,) = (found for found in tmp_path.iterdir() if found != path)
    assert moved.name.startswith("log.")
    assert moved.read_text() == "old\n12345\n6\n"


def test_only_so_many_log_files_remain(tmp_path: Path) -> None:
    clock = VirtualScheduler()
    sink = FileSink(str(tmp_path / "log"), size_max=1, count_max=3, clock=clock)
    (tmp_path / "log.notes").write_text("mine")
    for number in range(6):
        sink.write(f"{number}\n")
        clock.advance(1_000_000_000)
    sink.close()
    found = sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in found if name in {"log", "log.notes"}] == ["log", "log.notes"]
    assert [(tmp_path / name).read_text() for name in found if name not in {"log", "log.notes"}] == [
        "4\n",
        "5\n",
    ]
