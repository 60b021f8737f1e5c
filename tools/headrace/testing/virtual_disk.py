"""A disk for virtual servers: it keeps what was synced, and loses, tears and fails what a real one may.

    disk = VirtualDisk(seed=7)
    server = VirtualServer(disk=disk)
    ...
    server.crash(power_cut=True)
    server.restart()                    # finds what a machine may find after that

`files` is the disk itself: `files.fail(...)` makes calls fail, `files.cut_at(n)` lets the power go in the n-th change
(the act that was under way raises `PowerLost`), `capacity` makes it full.
"""

from typing import Final

from headrace.core.base.chance import Chance
from headrace.core.base.clock import Scheduler
from headrace.storage.bounds import Bounds
from headrace.storage.faulty_files import FaultyFiles
from headrace.storage.interface import Store
from headrace.storage.store import StoreOptions, open_store

STORE_PATH: Final = "/store"
BOUNDS: Final = Bounds(journal_size=256 * 1024, journal_entry_size_max=16 * 1024)
"""As in service, but for journals that do not weigh on a disk in memory."""


class VirtualDisk:
    """One disk that outlives its servers."""

    def __init__(self, seed: int = 0, *, capacity: int = 0) -> None:
        self.files = FaultyFiles(seed, capacity=capacity)

    def open_store(self, scheduler: Scheduler, chance: Chance) -> Store:
        """Open the store on it, as a server does when it starts."""
        options = StoreOptions(is_index_in_memory=True, bounds=BOUNDS)
        return open_store(STORE_PATH, scheduler=scheduler, chance=chance, files=self.files, options=options)

    def kill(self) -> None:
        """Leave what the death of a process leaves: everything written."""
        self.files = self.files.killed()

    def cut_power(self) -> None:
        """Leave what a power cut leaves: everything synced, and what chance makes of the rest."""
        self.files = self.files.power_cut()
