"""The server's log: one line an entry, in the form that NATS tooling reads.

    [4242] 2026/11/23 18:00:00.000000 [INF] Listening for client connections on 0.0.0.0:4222

Test harnesses of the official clients wait for some of these lines, so their text is a promise. The log never ends
the server: a line that cannot be written (a full disk, a closed pipe) is dropped and counted.
"""

import os
import sys
import time
from typing import Final, Protocol, TextIO

from headrace.core.base.clock import NS_PER_S, Clock, SystemClock

_LABELS: Final = {
    "info": "INF",
    "warning": "WRN",
    "error": "ERR",
    "fatal": "FTL",
    "debug": "DBG",
    "trace": "TRC",
}


class Sink(Protocol):
    """Where lines go."""

    def write(self, line: str) -> None:
        """Take one line, its line end included; raises OSError where it cannot."""
        ...

    def reopen(self) -> None:
        """Open the file anew, after it was moved away."""
        ...

    def close(self) -> None: ...


class StreamSink:
    """Lines to a stream that somebody else owns: standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr

    def write(self, line: str) -> None:
        self._stream.write(line)
        self._stream.flush()

    def reopen(self) -> None:
        """A stream has no name to open again; nothing happens."""

    def close(self) -> None:
        """The stream stays open: it is not ours."""


class FileSink:
    """Lines appended to a file. Raises OSError when it cannot be opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._opened()

    def _opened(self) -> TextIO:
        # Kept open until `close`. Buffered by line, so that a tail and a harness see each line when it was written.
        return open(self._path, "a", buffering=1, encoding="utf-8")

    def write(self, line: str) -> None:
        self._file.write(line)

    def reopen(self) -> None:
        opened = self._opened()
        self._file.close()
        self._file = opened

    def close(self) -> None:
        self._file.close()


class MemorySink:
    """Lines kept in a list, for embedders and tests."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line)

    def reopen(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""


class Log:
    """Writes entries to a sink. `is_debug` and `is_trace` say whether such entries are wanted at all."""

    def __init__(
        self,
        sink: Sink | None = None,
        clock: Clock | None = None,
        *,
        is_debug: bool = False,
        is_trace: bool = False,
        with_time: bool = True,
        in_utc: bool = False,
        process_id: int | None = None,
    ) -> None:
        self.is_debug = is_debug
        self.is_trace = is_trace
        self.dropped = 0
        self._sink: Sink = sink if sink is not None else StreamSink()
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._with_time = with_time
        self._in_utc = in_utc
        self._process_id = os.getpid() if process_id is None else process_id

    def info(self, text: str) -> None:
        self._write("info", text)

    def warning(self, text: str) -> None:
        self._write("warning", text)

    def error(self, text: str) -> None:
        self._write("error", text)

    def fatal(self, text: str) -> None:
        """Write what makes the server end; the caller ends it."""
        self._write("fatal", text)

    def debug(self, text: str) -> None:
        if self.is_debug:
            self._write("debug", text)

    def trace(self, text: str) -> None:
        if self.is_trace:
            self._write("trace", text)

    def reopen(self) -> None:
        """Open the log file anew; where that fails, the old one is kept and says so."""
        try:
            self._sink.reopen()
        except OSError as error:
            self.error(f"Log file not reopened: {error}")
        else:
            self.info("File log re-opened")

    def close(self) -> None:
        self._sink.close()

    def _write(self, level: str, text: str) -> None:
        # One entry is one line: what a peer put into a name must not forge another entry.
        printable = text.replace("\r", "\\r").replace("\n", "\\n")
        line = f"[{self._process_id}] {self._stamp()}[{_LABELS[level]}] {printable}\n"
        try:
            self._sink.write(line)
        except (OSError, ValueError):  # ValueError: the stream was closed under us
            self.dropped += 1

    def _stamp(self) -> str:
        if not self._with_time:
            return ""
        seconds, rest_ns = divmod(self._clock.now_ns(), NS_PER_S)
        broken_down = time.gmtime(seconds) if self._in_utc else time.localtime(seconds)
        return f"{time.strftime('%Y/%m/%d %H:%M:%S', broken_down)}.{rest_ns // 1000:06d} "
