"""How long this machine's disk takes for a sync: what every acknowledged write waits for."""

import os
import statistics
import tempfile
import time
from typing import Final

SYNCS: Final = 40
SIZE: Final = 32 * 1024
NS_PER_US: Final = 1000


def sync_latency_us() -> float:
    """Give the median time of a sync of 32 KiB written into a file of fixed size, where stores of a run are put."""
    latencies_ns: list[int] = []
    with tempfile.TemporaryFile() as file:
        handle = file.fileno()
        os.pwrite(handle, bytes(SIZE * SYNCS), 0)
        os.fsync(handle)
        for index in range(SYNCS):
            os.pwrite(handle, b"x" * SIZE, index * SIZE)
            started_ns = time.perf_counter_ns()
            os.fsync(handle)
            latencies_ns.append(time.perf_counter_ns() - started_ns)
    return statistics.median(latencies_ns) / NS_PER_US
