"""The indexer's process: takes jobs and writes the lookup index (see `index_process.py`).

    python -m headrace.storage.indexer <folder> <jobs> <answers> <data> <wake>

The numbers are handles that it was given. It holds the index's lock by another one, and ends when `jobs` closes.
"""

import os
import select
import sys
from typing import Any, Final

import msgpack

from headrace.core.base.chance import Chance
from headrace.storage.files import RealFiles
from headrace.storage.index_interface import IndexDamaged, IndexUnwritable
from headrace.storage.index_jobs import Done, Executor, decode_job
from headrace.storage.index_process import ANSWER_HEAD, DAMAGED, DONE, FAILED, JOB_HEAD, UNWRITABLE
from headrace.storage.index_root import IndexRoot
from headrace.storage.index_rows import log_payload
from headrace.storage.lmdb_tables import LmdbTables

RESIDENT_MAX: Final = 48 * 1024 * 1024
NICENESS: Final = 5
"""The loop that answers clients goes first."""


class ServerGone(Exception):
    """Nobody wants this any more."""


class Process:
    """The loop of the indexer's process."""

    def __init__(self, path: str, *, jobs: int, answers: int, data: int, wake: int) -> None:
        self._jobs = jobs
        self._answers = answers
        self._data = data
        self._wake = wake
        self._poll = select.poll()
        self._poll.register(jobs, select.POLLIN)
        self._tables = LmdbTables(path, joins=True, resident_max=RESIDENT_MAX)
        self._root = IndexRoot(self._tables, Chance(1))
        self._executor = Executor(self._root, RealFiles())

    def run(self) -> None:
        """Carry out jobs until the server has gone."""
        try:
            while True:
                while not self._poll.poll(0) and self._root.sweep():
                    pass
                head = os.read(self._jobs, JOB_HEAD.size)
                if not head:
                    break
                self._answer(self._outcome(JOB_HEAD.unpack(head)[0]))
        except (ServerGone, BrokenPipeError):
            pass
        self._tables.leave()

    def _outcome(self, size: int) -> tuple[Any, ...]:
        try:
            steps = self._executor.run(decode_job(os.pread(self._data, size, 0)))
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    done: Done = end.value
                    row = b"" if done.row is None else log_payload(done.row)
                    return DONE, row, done.unreadable
                if self._poll.poll(0):
                    # One job at a time: what there is to read is the end.
                    raise ServerGone
        except IndexDamaged as error:
            return DAMAGED, str(error)
        except IndexUnwritable as error:
            return UNWRITABLE, str(error)
        except OSError as error:
            return FAILED, str(error)

    def _answer(self, values: tuple[Any, ...]) -> None:
        data = msgpack.packb(values)
        os.write(self._answers, ANSWER_HEAD.pack(len(data)) + data)
        os.write(self._wake, (1).to_bytes(8, sys.byteorder))


def main() -> None:
    """Run as the command line says."""
    path, *handles = sys.argv[1:]
    jobs, answers, data, wake = map(int, handles)
    os.nice(NICENESS)
    Process(path, jobs=jobs, answers=answers, data=data, wake=wake).run()


if __name__ == "__main__":
    main()
