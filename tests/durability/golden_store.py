"""The golden stores: what they hold, and how they were made.

`golden/format-1/clean` was stopped cleanly, `golden/format-1/killed` is a copy of its files a moment before. Together
they have every type of record, every flag that this version writes, sealed and open segments, dropped ones, sidecars,
and two generations of a state log. They are never made anew: a version that reads them differently is wrong. A new
format gets a folder of its own, by `python tests/durability/golden_store.py FOLDER` with the roots on PYTHONPATH.
"""

import json
import os
import shutil
import sys
import tempfile
from typing import Any

from headrace.core.base.chance import Chance
from headrace.core.base.clock import NS_PER_S, VirtualScheduler
from headrace.core.base.message import Message, MessageBatch
from headrace.storage.bounds import Bounds
from headrace.storage.files import Files
from headrace.storage.interface import Effect, Entry, Register, RegisterChange, StreamLog
from headrace.storage.store import FileStore, StoreOptions, open_store

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "golden", "format-1")
KINDS = ("clean", "killed")
BOUNDS = Bounds(
    segment_size_first=4096,
    segment_size_max=8192,
    checkpoint_count=25,
    generation_size_min=1500,
    journal_size=16384,
    journal_entry_size_max=4096,
)


def opened(path: str, files: Files | None = None, seed: int = 1) -> tuple[FileStore, VirtualScheduler]:
    """Open a store in virtual time, its index in memory."""
    scheduler = VirtualScheduler()
    options = StoreOptions(is_index_in_memory=True, bounds=BOUNDS)
    return open_store(path, scheduler=scheduler, chance=Chance(seed), files=files, options=options), scheduler


def described(log: StreamLog) -> dict[str, Any]:
    """Say all that a log holds, as JSON values."""
    end = log.head.last_sequence
    # Reading comes first: what does not check is listed by then.
    views = log.scan(1, end, None, messages_max=1 << 30, size_max=1 << 40, steps_max=1 << 30).views
    head = log.head
    return {
        "config": log.config,
        "created_ns": log.created_ns,
        "head": [
            head.messages,
            head.size,
            head.first_sequence,
            head.first_time_ns,
            head.last_sequence,
            head.last_time_ns,
            head.subject_count,
            head.deleted_count,
            [list(each) for each in head.lost],
        ],
        "messages": [
            [each.decode("latin-1") if isinstance(each, bytes) else each for each in view] for view in views
        ],
        "consumers": {
            name: [
                record.config,
                record.created_ns,
                record.register.numbers,
                [[sequence, *row] for sequence, row in sorted(record.register.rows.items())],
            ]
            for name, record in sorted(log.consumers().items())
        },
        "ids": {
            name: log.find_message_id(name.encode(), 1)
            for name in ("first", "by-map", "kept", "gone", "never")
        },
    }


def copied(source: str, target: str) -> str:
    """Copy a golden store for a test to open."""
    shutil.copytree(source, target)
    os.makedirs(os.path.join(target, "streams"), exist_ok=True)
    return target


def main(folder: str) -> None:
    """Make both stores and their description."""
    work = tempfile.mkdtemp()
    store, scheduler = opened(f"{work}/store", seed=20_000)

    def turn() -> None:
        store.commit()
        scheduler.settle()
        scheduler.advance(NS_PER_S // 2)

    log = store.create({"name": "GOLDEN", "subjects": ["g.>"]}, memory=False, created_ns=scheduler.now_ns())
    headers = b"NATS/1.0\r\nNats-Msg-Id: first\r\n\r\n"
    log.append([Entry(b"g.one", headers, b"with an id in its headers", scheduler.now_ns(), b"first")])
    turn()
    log.save_consumer(
        "worker", {"durable_name": "worker"}, scheduler.now_ns(), Register({"floor_stream": 0}, {})
    )
    for number in range(20):
        subjects = [b"g.%d" % (number % 7), b"g.one", b"g.two.three"]
        log.append_batch(
            MessageBatch(Message(each, b"", b"", b"payload %d " % number * 9, 1) for each in subjects),
            scheduler.now_ns(),
        )
        change = RegisterChange({"floor_stream": number}, [(1, number)], {number + 5: (number, 7, 1)})
        log.change_register("worker", change, sync=number % 2 == 0)
        turn()
    log.append([Entry(b"g.id", b"", b"an id of its own", scheduler.now_ns(), b"by-map")])
    log.append(
        [Entry(b"g.id", b"NATS/1.0\r\nNats-Msg-Id: kept\r\n\r\n", b"an id", scheduler.now_ns(), b"kept")]
    )
    log.append([Entry(b"g.hit", b"", b"to be damaged", scheduler.now_ns())])
    turn()
    # The process dies, and a bit of what is above the last checkpoint goes bad.
    shutil.copytree(f"{work}/store", f"{work}/second")
    _damage(f"{work}/second", b"to be damaged")
    store, scheduler = opened(f"{work}/second", seed=30_000)
    (log,) = store.logs()
    turn()
    log.remove([(1, 22), (30, 33)])
    turn()
    log.skip(log.head.last_sequence + 5, scheduler.now_ns())
    log.append([Entry(b"g.0", b"", b"evicts", scheduler.now_ns(), b"gone", 40, Effect(evicted=(40, 42)))])
    log.append([Entry(b"g.one", b"", b"rolls up", scheduler.now_ns(), effect=Effect(subject_before=True))])
    log.append([Entry(b"g.1", b"", b"moves the first", scheduler.now_ns(), effect=Effect(first_sequence=25))])
    turn()
    log.save_consumer("second", {"ack_policy": "none"}, 5, None)
    log.delete_consumer("second")
    log.save_config({"name": "GOLDEN", "subjects": ["g.>"], "max_msgs": 1000})
    other = store.create({"name": "EMPTIED"}, memory=False, created_ns=7, first_sequence=100)
    other.append(
        [Entry(b"e", b"", b"short", scheduler.now_ns()), Entry(b"e", b"", b"lived", scheduler.now_ns())]
    )
    turn()
    other.append([Entry(b"f", b"A: b\r\n", b"", scheduler.now_ns(), effect=Effect(all_before=True))])
    turn()
    shutil.copytree(f"{work}/second", f"{folder}/killed")
    expected = {log.config["name"]: described(log) for log in store.logs()}
    store.close()
    shutil.copytree(f"{work}/second", f"{folder}/clean")
    for kind in KINDS:
        os.unlink(f"{folder}/{kind}/lock")
    with open(f"{folder}/expected.json", "w", encoding="utf-8") as file:
        json.dump(expected, file, indent=1, sort_keys=True)
        file.write("\n")
    shutil.rmtree(work)


def _damage(path: str, text: bytes) -> None:
    for folder, _, names in os.walk(path):
        for name in names:
            with open(os.path.join(folder, name), "r+b") as file:
                content = file.read()
                if text in content:
                    file.seek(content.index(text))
                    file.write(b"X")


if __name__ == "__main__":
    main(sys.argv[1])
