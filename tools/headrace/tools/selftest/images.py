"""Power cuts on a real file system: an ext4 image, mounted, is copied while the real server writes to it.

What the image holds at a moment is what a machine would find after a power cut then: all that was synced, and what the
system happened to have written of the rest, with ext4's own journal to be replayed. The server is stopped (SIGSTOP) for
the copy, so that nothing is acknowledged meanwhile, and the copy is taken until two in a row are equal. Then the
process is killed, the image replaced by its copy and mounted again, and the next life begins on it. LMDB writes for
itself, and nothing else covers it.

Needs Linux, root, and loop devices.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from typing import Final

from headrace.core.base.errors import HeadraceError
from headrace.tools.killloop.campaign import Result, campaign
from headrace.tools.launch import Program, RunningServer, Settings, free_port, start

IMAGE_SIZE: Final = 192 * 1024 * 1024
UNMOUNT_MAX_S: Final = 20.0
COPIES_MAX: Final = 20


class NoImages(HeadraceError):
    """This machine does not let us mount an image; says why."""


class Image:
    """An ext4 file system in a file, mounted until it is closed."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "image")
        self.mount_path = os.path.join(folder, "mounted")
        os.mkdir(self.mount_path)
        with open(self.path, "wb") as file:
            file.truncate(IMAGE_SIZE)
        _run("mkfs.ext4", "-q", "-F", self.path)
        self.mount()

    def mount(self) -> None:
        _run("mount", "-o", "loop", self.path, self.mount_path)

    def unmount(self) -> None:
        """Unmount; what still ends (a server's indexer) is waited for."""
        deadline_s = time.monotonic() + UNMOUNT_MAX_S
        while True:
            try:
                _run("umount", self.mount_path)
            except NoImages:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)
            else:
                return

    def cut_power(self, server: RunningServer) -> None:
        """End the server, and leave of the image what was on it."""
        os.kill(server.pid, signal.SIGSTOP)
        copy = self._copied()
        server.kill()
        self.unmount()
        os.replace(copy, self.path)
        self.mount()

    def _copied(self) -> str:
        names = (f"{self.path}.1", f"{self.path}.2")
        shutil.copyfile(self.path, names[1])
        for count in range(COPIES_MAX):
            copy, before = names[count % 2], names[1 - count % 2]
            shutil.copyfile(self.path, copy)
            if subprocess.run(["cmp", "-s", copy, before], check=False).returncode == 0:
                os.unlink(before)
                return copy
        raise NoImages("the image does not come to rest")


def run_images(program: Program, *, count: int, seed: int) -> Result:
    """Cut the power `count` times under load, and audit; raises NoImages where images cannot be had."""
    with tempfile.TemporaryDirectory(prefix="headrace-image-") as folder, contextlib.ExitStack() as stack:
        image = Image(folder)
        stack.callback(image.unmount)
        settings = Settings(
            jetstream=True, store_dir=os.path.join(image.mount_path, "store"), port=free_port()
        )
        with start(program, settings) as server:
            return asyncio.run(campaign(server, cycles=count, seed=seed, end_life=image.cut_power))


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoImages(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise NoImages(f"{' '.join(command)}: {done.stderr.strip()}")
