"""What a start has to read does not grow with the stream, even where the server died in the middle of its work."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.storage.blocks import Blocks
from headrace.storage.bounds import DEFAULT_BOUNDS
from headrace.storage.files import RealFiles
from headrace.storage.reader import examine
from headrace.storage.store import STREAMS_FOLDER, StoreOptions, open_store
from headrace.storage.subject_index import SubjectIndex
from headrace.storage.untold_index import UntoldIndex

BOUNDS = replace(DEFAULT_BOUNDS, checkpoint_count=2_000)
MESSAGES = 60_000
SUBJECTS = 20_000
REPLAYED_MAX = 20_000
"""A checkpoint's distance, and what was appended while the index caught up with the last one."""

WRITER = f"""
import os, sys
from dataclasses import replace
from headrace.core.base.chance import Chance
from headrace.core.base.clock import VirtualScheduler
from headrace.core.base.message import Message, MessageBatch
from headrace.storage.bounds import DEFAULT_BOUNDS
from headrace.storage.store import StoreOptions, open_store

options = StoreOptions(bounds=replace(DEFAULT_BOUNDS, checkpoint_count=2_000))
scheduler = VirtualScheduler()
store = open_store(sys.argv[1], scheduler=scheduler, chance=Chance(1), options=options)
log = store.create({{"name": "S"}}, memory=False, created_ns=1)
for start in range(0, {MESSAGES}, 500):
    log.append_batch(
        MessageBatch(Message(b"s.%d" % (n % {SUBJECTS}), b"", b"", b"x" * 64, 1) for n in range(start, start + 500)),
        1 + start,
    )
    store.commit()
    scheduler.settle()
os._exit(0)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give a store whose process died while it was being written without a pause."""
    path = str(tmp_path_factory.mktemp("store") / "headrace")
    subprocess.run(
        [sys.executable, "-c", WRITER, path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    return path


def test_a_start_after_steady_load_replays_little(path: str) -> None:
    files = RealFiles()
    (folder,) = (Path(path) / STREAMS_FOLDER).iterdir()
    examined = examine(files, Blocks(files, size_max=1 << 20), str(folder), UntoldIndex())
    assert examined.contents.last == MESSAGES
    assert len(examined.survey.events) <= REPLAYED_MAX


def test_a_start_after_steady_load_does_not_rebuild_the_index(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilt: list[SubjectIndex] = []
    monkeypatch.setattr(SubjectIndex, "rebuild", rebuilt.append)
    store = open_store(
        path, scheduler=VirtualScheduler(), chance=Chance(2), options=StoreOptions(bounds=BOUNDS)
    )
    (log,) = store.logs()
    assert rebuilt == []
    assert (log.head.messages, log.head.subject_count) == (MESSAGES, SUBJECTS)
    state = log.subject(b"s.7")
    assert state is not None
    assert (state.count, state.last_sequence) == (3, 2 * SUBJECTS + 8)
    store.close()
