"""What a start has to read does not grow with the stream, even where the server died in the middle of its work."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, VirtualScheduler
from headrace.storage.blocks import Blocks
from headrace.storage.bounds import DEFAULT_BOUNDS
from headrace.storage.files import RealFiles
from headrace.storage.interface import Entry
from headrace.storage.reader import examine
from headrace.storage.store import STREAMS_FOLDER, StoreOptions, open_store
from headrace.storage.subject_index import SubjectIndex
from headrace.storage.untold_index import UntoldIndex
from headrace.tools.selftest.world import BOUNDS as SMALL_BOUNDS
from headrace.tools.selftest.world import World

BOUNDS = replace(DEFAULT_BOUNDS, checkpoint_count=2_000)
MESSAGES = 60_000
SUBJECTS = 20_000
REPLAYED_MAX = 20_000
"""A checkpoint's distance, and what was appended while the index caught up with the last one."""

LIFE_MESSAGES = 15

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


def test_many_short_lives_do_not_add_up() -> None:
    """Each life appends less than a checkpoint's distance; the next start must not replay all of them."""
    world = World(1)
    world.create()
    world.commit()
    replayed: list[int] = []
    for life in range(30):
        (log,) = world.store.logs()
        log.append([Entry(b"s.%d" % number, b"", b"x", life + 1) for number in range(LIFE_MESSAGES)])
        world.commit()
        world.scheduler.advance(NS_PER_S)
        world.kill()
        folder = f"{world.path}/{STREAMS_FOLDER}/{log.stream_id:016x}"
        examined = examine(world.files, Blocks(world.files, size_max=1 << 20), folder, UntoldIndex())
        replayed.append(len(examined.survey.events))
    assert max(replayed) <= SMALL_BOUNDS.checkpoint_count + 2 * LIFE_MESSAGES
