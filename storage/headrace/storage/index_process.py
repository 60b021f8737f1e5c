"""The indexer as a process of its own: how the server starts it, gives it jobs, and hears of them.

py-lmdb beside a busy loop falls from 1.6 million to nine thousand puts a second, and takes from the loop what it gets;
so a server lets a process of its own write, and only reads. One job is under way at a time. It lies in a file in
memory that both hold; a pipe says how long it is, another one brings the answer, and the store's wake says that there
is one. The process is started for the first job, and ends when the server's end of the pipe closes, however that came
about.

A process that died is started again, and the job is given again; a part of a rebuild would be told twice, so that
rebuild begins anew. Where it died of its own (a damaged database maps to a signal), the database is distrusted. After
`DEATHS_MAX` deaths without a job done in between, the loop does the work itself.
"""

import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgpack

from headrace.core.base.engine_choice import ENGINE
from headrace.storage.framing import Unreadable
from headrace.storage.index_interface import IndexDamaged, IndexUnwritable
from headrace.storage.index_jobs import Done, Job, PartJob, encode_job
from headrace.storage.index_rows import parse_log
from headrace.storage.index_worker import JobCut, OnDone

DEATHS_MAX: Final = 3
END_WAIT_S: Final = 5.0
"""How long a stop waits for the process; then it is killed."""

ANSWER_SIZE_MAX: Final = 65_536

FATAL_SIGNALS: Final = frozenset(
    -number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
)

INDEXER_MODULE: Final = "headrace.storage.indexer"

HOLDER: Final = struct.Struct("<I")
"""What the lock's file holds: the number of the process that has the lock beside its server, or had it last."""

JOB_HEAD: Final = struct.Struct("<Q")
ANSWER_HEAD: Final = struct.Struct("<I")

DONE: Final = 0
DAMAGED: Final = 1
UNWRITABLE: Final = 2
FAILED: Final = 3
"""How an answer begins; then comes the log's row (empty for none) and what could not be read, or what went wrong."""


class ProcessIndexer:
    """An `Indexer` in another process. `on_given_up` hears what was not done, when there have been too many deaths."""

    def __init__(
        self,
        path: str,
        *,
        wake_handle: int,
        lock_handle: int,
        on_given_up: Callable[[list[tuple[Job, OnDone]]], None],
    ) -> None:
        self._path = path
        self._wake_handle = wake_handle
        self._lock_handle = lock_handle
        self._on_given_up = on_given_up
        self._waiting: deque[tuple[Job, OnDone]] = deque()
        self._flying: tuple[Job, OnDone] | None = None
        self._received = bytearray()
        self._deaths = 0
        self._data_handle = _shared_file()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process_id(self) -> int:
        """0: nothing was to be done yet."""
        return 0 if self._process is None else self._process.pid

    def submit(self, job: Job, on_done: OnDone) -> None:
        self._waiting.append((job, on_done))
        self._hand_over()

    def work(self, deadline_ns: int) -> bool:  # noqa: ARG002  (there is nothing to do here)
        if self._process is None:
            return False
        try:
            data = os.read(self._answers, ANSWER_SIZE_MAX)
        except BlockingIOError:
            return False
        if data:
            self._received += data
            self._take_answers()
        else:
            self._on_death()
        return False

    def wait(self, timeout_s: float) -> None:
        """Wait for an answer, at a stop."""
        if self._flying is not None:
            select.select([self._answers], [], [], timeout_s)
        self.work(0)

    def close(self) -> None:
        self._waiting.clear()
        self._flying = None
        self._end()
        os.close(self._data_handle)

    def _start(self) -> None:
        jobs_end, self._jobs = os.pipe()
        self._answers, answers_end = os.pipe()
        os.set_blocking(self._answers, False)
        self._received.clear()
        handles = (jobs_end, answers_end, self._data_handle, self._wake_handle)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
            "HEADRACE_ENGINE": ENGINE,
        }
        try:
            # In a session of its own: Ctrl-C ends the server, whose stop still has something to write.
            self._process = subprocess.Popen(
                [sys.executable, "-m", INDEXER_MODULE, self._path, *map(str, handles)],
                pass_fds=(*handles, self._lock_handle),
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError:
            os.close(self._jobs)
            os.close(self._answers)
            raise
        finally:
            os.close(jobs_end)
            os.close(answers_end)
        # On a full disk the next start has to wait for it, and that is all.
        with contextlib.suppress(OSError):
            os.pwrite(self._lock_handle, HOLDER.pack(self._process.pid), 0)

    def _end(self) -> int:
        """Let the process end; give its exit status."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        os.close(self._jobs)
        os.close(self._answers)
        try:
            return process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _hand_over(self) -> None:
        if self._flying is not None or not self._waiting:
            return
        if self._process is None:
            try:
                self._start()
            except OSError:
                self._give_up()
                return
        self._flying = self._waiting.popleft()
        data = encode_job(self._flying[0])
        os.pwrite(self._data_handle, data, 0)
        # When nobody reads any more, the answers' end says so too.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._jobs, JOB_HEAD.pack(len(data)))

    def _take_answers(self) -> None:
        while len(self._received) >= ANSWER_HEAD.size:
            size = ANSWER_HEAD.unpack_from(self._received)[0]
            end = ANSWER_HEAD.size + size
            if len(self._received) < end:
                return
            code, *values = msgpack.unpackb(bytes(self._received[ANSWER_HEAD.size : end]))
            del self._received[:end]
            assert self._flying is not None, "an answer belongs to a job"
            on_done, self._flying = self._flying[1], None
            self._deaths = 0
            # The next job goes first: its process should not wait for what this one's end leads to.
            self._hand_over()
            on_done(*_outcome(code, values))

    def _on_death(self) -> None:
        self._deaths += 1
        flying, self._flying = self._flying, None
        cut: OnDone | None = None
        if flying is not None:
            if isinstance(flying[0], PartJob):
                cut = flying[1]
            else:
                self._waiting.appendleft(flying)
        status = self._end()
        if status in FATAL_SIGNALS and flying is not None:
            self._deaths = 0
            flying[1](None, IndexDamaged(f"the indexer died of signal {-status}"))
            return
        if self._deaths > DEATHS_MAX:
            self._give_up()
        else:
            self._hand_over()
        if cut is not None:
            cut(None, JobCut())

    def _give_up(self) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        os.close(self._data_handle)
        self._on_given_up(waiting)


def _outcome(code: int, values: list[Any]) -> tuple[Done | None, Exception | None]:
    if code == DONE:
        row, unreadable = values
        return Done(parse_log(row) if row else None, [Unreadable(*each) for each in unreadable]), None
    if code == DAMAGED:
        return None, IndexDamaged(str(values[0]))
    if code == UNWRITABLE:
        return None, IndexUnwritable(str(values[0]))
    return None, OSError(str(values[0]))


def _shared_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("headrace-index", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
