"""The indexer's process of a server that was killed, and the lock that it holds."""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.storage import subject_indexes
from headrace.storage.files import RealFiles
from headrace.storage.index_jobs import DropJob, Job
from headrace.storage.index_process import HOLDER, INDEXER_MODULE, ProcessIndexer
from headrace.storage.index_worker import OnDone
from headrace.storage.subject_indexes import LOCK_WAIT_S, SubjectIndexes
from headrace.storage.sync import Wake
from headrace.storage.unheeded import unheeded

SERVER = """
import sys, time
from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.storage.files import RealFiles
from headrace.storage.subject_indexes import SubjectIndexes
from headrace.storage.sync import Wake
indexes = SubjectIndexes(sys.argv[1], Chance(1), VirtualScheduler(), RealFiles(), will_be_process=True)
indexes.start_process(Wake().write_handle)
indexes.drop_log(7)
print(indexes.process_id, flush=True)
time.sleep(60)
"""


def opened(path: str) -> SubjectIndexes:
    return SubjectIndexes(path, Chance(2), VirtualScheduler(), RealFiles())


@pytest.mark.skipif(sys.platform != "linux", reason="the system says which process it is")
def test_a_start_does_not_wait_for_the_indexer_of_a_server_that_was_killed(tmp_path: Path) -> None:
    path = str(tmp_path / "index")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, path], stdout=subprocess.PIPE, env=environment
    ) as server:
        assert server.stdout is not None
        indexer = int(server.stdout.readline())
        os.kill(indexer, signal.SIGSTOP)  # as one that waits for a slow disk
        server.kill()
    try:
        started_s = time.monotonic()
        indexes = opened(path)
        assert time.monotonic() - started_s < LOCK_WAIT_S / 2
        assert not indexes.is_volatile
        indexes.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(indexer, signal.SIGKILL)


@pytest.mark.parametrize("arguments", [[], [INDEXER_MODULE, "/another/index"]])
def test_a_process_that_only_has_the_number_is_left_alone(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject_indexes, "LOCK_WAIT_S", 0.05)
    path = str(tmp_path / "index")
    program = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()  # by now the system knows its arguments
        with open(f"{path}.lock", "w+b") as lock:
            lock.write(HOLDER.pack(other.pid))
            lock.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
            indexes = opened(path)
        assert indexes.is_volatile
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.2)
        indexes.close()
        other.kill()


def test_an_indexer_works_though_its_number_cannot_be_noted(tmp_path: Path) -> None:
    path = str(tmp_path / "index")
    opened(path).close()  # makes the database
    wake = Wake()
    given_up: list[tuple[Job, OnDone]] = []
    ended: list[Exception | None] = []
    lock = os.open(f"{path}.lock", os.O_RDONLY)
    indexer = ProcessIndexer(
        path, wake_handle=wake.write_handle, lock_handle=lock, on_given_up=given_up.extend
    )
    indexer.submit(DropJob(7), lambda _, error: ended.append(error))
    while not ended and not given_up:
        assert select.select([wake.read_handle], [], [], 10)[0]
        wake.clear()
        indexer.work(0)
    assert ended == [None]
    indexer.submit(DropJob(8), unheeded)
    indexer.close()
    os.close(lock)
    wake.close()
