"""A disk in memory that keeps only what POSIX promises, and fails when it is told to.

It implements `Files`. Everything written is visible at once, as through a page cache, and durable only after the right
sync. `power_cut()` gives the disk that a machine may find afterwards; one seed gives one disk:

- each page (4 KiB) of a file that was not synced is there as written, as it was, or *torn*: sector by sector (512
  bytes) one or the other; a page that was never on disk may hold a stale block of another file instead of zeros;
- a size that was not synced is the old one, the new one, or one between;
- names that were not synced (creations, renames, removals, folders) are there up to some moment (a journalling file
  system) or each by itself (any other); a rename has happened or has not.

`killed()` gives the disk after the death of the process alone: all that was written is there, and still not synced.

**Faults**: `fail(...)` lets the n-th call of some kind fail, once or from then on, with an errno, for a write
after part of it; with `where`, of those calls alone whose path holds that text. A failed sync behaves as Linux does:
the pages in question are no longer waiting to be written, some of them never arrive, and the next sync reports
success. `cut_at(n)` lets the power go in the n-th change: it raises `PowerLost`, which no `except OSError` and no
`except Exception` holds up, and `last_change` says where that was. `capacity` limits the sum of all files.

`image()` and `restored()` take a disk's content out and make a disk of such a content, all of it durable: for
campaigns that damage a store in one place after the other.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from headrace.core.base.chance import Chance
from headrace.storage.files import Buffer, FileStatus

PAGE_SIZE: Final = 4096
SECTOR_SIZE: Final = 512

CHANGES: Final = frozenset(
    {
        "create",
        "pwrite",
        "preallocate",
        "sync",
        "sync_folder",
        "sync_disk",
        "rename",
        "unlink",
        "make_folder",
        "remove_folder",
    }
)
"""The calls that change the disk: those that `cut_at` counts."""


class PowerLost(BaseException):
    """The power went. The disk that is left is `power_cut()` of the same files."""


@dataclass(slots=True, eq=False)
class _File:
    """`data` is what is seen; `durable` what is on the medium; `dirty` the pages where they may differ."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set[int])
    is_locked: bool = False


@dataclass(slots=True, eq=False)
class _Folder:
    """`names` is what is seen; `durable` what is on the medium; `waiting` how to get from this to that, in order."""

    names: "dict[str, _File | _Folder]" = field(default_factory=dict[str, "_File | _Folder"])
    durable: "dict[str, _File | _Folder]" = field(default_factory=dict[str, "_File | _Folder"])
    waiting: "list[_NameChange]" = field(default_factory=list["_NameChange"])


@dataclass(frozen=True, slots=True)
class _NameChange:
    """One step in a folder: `node` gets the name `name`, or (None) the name goes; `old_name` goes with it."""

    moment: int
    name: str
    node: _File | _Folder | None
    old_name: str = ""

    def apply(self, names: dict[str, _File | _Folder]) -> None:
        if self.node is None:
            names.pop(self.name, None)
            return
        names[self.name] = self.node
        if self.old_name and names.get(self.old_name) is self.node:
            del names[self.old_name]


@dataclass(slots=True)
class _Fault:
    call: str
    countdown: int
    number: int
    is_lasting: bool
    part: float
    where: str

    def meets(self, call: str, path: str) -> bool:
        """Tell whether a call is one of those that are counted."""
        is_of_kind = self.call in (call, "any") or (self.call == "change" and call in CHANGES)
        return is_of_kind and self.where in path


class FaultyFiles:
    """The disk. Paths are absolute; the folder `/` is always there. Not for more than one thread at a time."""

    def __init__(self, seed: int, *, capacity: int = 0) -> None:
        self.capacity = capacity
        self.changes = 0
        """How many changes were made so far."""
        self.calls = 0
        """How many calls, of those that can fail."""
        self.last_change = ("", "")
        """The call and the path of the newest change."""
        self._chance = Chance(seed)
        self._root = _Folder()
        self._handles: dict[int, _File] = {}
        self._paths: dict[int, str] = {}
        self._next_handle = 3
        self._faults: list[_Fault] = []
        self._cut_after = -1
        self._is_gone = False

    # what tests do to it

    def fail(
        self,
        call: str,
        *,
        nth: int = 1,
        number: int = errno.EIO,
        lasting: bool = False,
        part: float = 0.0,
        where: str = "",
    ) -> None:
        """Let the `nth` call from now on of the function `call` fail. "change": of any that changes something; "any".

        `number` is the errno; with `lasting` all calls after it fail too. Of a failing write, `part` (0 to 1) is done.
        With `where`, only calls count whose path holds it.
        """
        self._faults.append(_Fault(call, nth, number, lasting, part, where))

    def heal(self) -> None:
        """Forget all faults that were asked for."""
        self._faults.clear()

    def cut_at(self, nth: int) -> None:
        """Let the power go in the `nth` change from now on."""
        self._cut_after = nth

    @classmethod
    def restored(cls, image: Mapping[str, bytes], seed: int = 0) -> "FaultyFiles":
        """Give a disk that holds an image, all of it durable. A name that ends in `/` is a folder."""
        after = cls(seed)
        for path, content in image.items():
            folder = after._root
            names = path.strip("/").split("/")
            for name in names if path.endswith("/") else names[:-1]:
                inner = folder.durable.setdefault(name, _Folder())
                assert isinstance(inner, _Folder), f"{path} lies in a file"
                folder.names[name] = inner
                folder = inner
            if not path.endswith("/"):
                folder.names[names[-1]] = folder.durable[names[-1]] = _File(
                    bytearray(content), bytearray(content)
                )
        return after

    def image(self, *, durable: bool = False) -> dict[str, bytes]:
        """Give all that is there to be seen: the bytes of each file by its path; folders, ending in `/`, have none.

        With `durable`, only what is on the medium: what the harshest of power cuts leaves.
        """
        found: dict[str, bytes] = {}

        def look(folder: _Folder, path: str) -> None:
            for name, node in sorted((folder.durable if durable else folder.names).items()):
                if isinstance(node, _Folder):
                    found[f"{path}{name}/"] = b""
                    look(node, f"{path}{name}/")
                else:
                    found[f"{path}{name}"] = bytes(node.durable if durable else node.data)

        look(self._root, "/")
        return found

    def killed(self) -> "FaultyFiles":
        """Give the disk after the process died. These files cannot be used any more."""
        for file in _files_in(self._root):
            file.is_locked = False
        return self._successor(self._root)

    def power_cut(self) -> "FaultyFiles":
        """Give the disk after the power went, and came back. These files cannot be used any more."""
        chance = self._chance
        moments = sorted(each.moment for folder in _folders_in(self._root) for each in folder.waiting)
        horizon: int | None = None
        if chance.below(2):
            horizon = moments[chance.below(len(moments))] if moments and chance.below(4) else self.changes + 1
        stale = [bytes(file.data) for file in _files_in(self._root) if file.data]
        return self._successor(self._surviving_folder(self._root, horizon, stale, {}))

    # Files

    def create(self, path: str) -> int:
        self._enter("create", path)
        folder, name = self._parent(path)
        if name in folder.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        file = _File()
        self._change_name(folder, _NameChange(self.changes, name, file))
        return self._handle(file, path)

    def open(self, path: str, *, writable: bool = False) -> int:  # noqa: ARG002  (this disk has no permissions)
        self._enter("open", path)
        return self._handle(self._file(path), path)

    def close(self, handle: int) -> None:
        file = self._handles.pop(handle, None)
        self._paths.pop(handle, None)
        if file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if not any(each is file for each in self._handles.values()):
            file.is_locked = False

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        self._enter("pread", self._paths.get(handle, ""))
        return bytes(self._handles[handle].data[offset : offset + size])

    def pwrite(self, handle: int, data: Buffer, offset: int) -> None:
        content = bytes(data)

        def some(part: float) -> None:
            self._write(handle, content[: int(len(content) * part)], offset)

        self._enter("pwrite", self._paths.get(handle, ""), some)
        self._write(handle, content, offset)

    def preallocate(self, handle: int, offset: int, size: int) -> None:
        self._enter("preallocate", self._paths.get(handle, ""))
        file = self._handles[handle]
        missing = offset + size - len(file.data)
        if missing > 0:
            self._write(handle, bytes(missing), len(file.data))

    def sync(self, handle: int) -> None:
        file = self._handles[handle]

        def lose(part: float) -> None:  # noqa: ARG001  (of a sync it is up to chance what arrives)
            self._sync_some(file)

        self._enter("sync", self._paths.get(handle, ""), lose)
        _make_durable(file, file.dirty, len(file.data))
        file.dirty.clear()

    def sync_folder(self, path: str) -> None:
        self._enter("sync_folder", path)
        _make_names_durable(self._folder(path))

    def sync_disk(self, handle: int) -> bool:
        assert handle in self._handles, "the handle is open"

        def lose(part: float) -> None:  # noqa: ARG001  (of a sync it is up to chance what arrives)
            for folder in _folders_in(self._root):
                if self._chance.below(2):
                    _make_names_durable(folder)
            for file in _files_in(self._root):
                self._sync_some(file)

        self._enter("sync_disk", self._paths[handle], lose)
        for folder in list(_folders_in(self._root)):
            _make_names_durable(folder)
        for file in _files_in(self._root):
            _make_durable(file, file.dirty, len(file.data))
            file.dirty.clear()
        return True

    def size(self, handle: int) -> int:
        return len(self._handles[handle].data)

    def status(self, path: str) -> FileStatus | None:
        self._enter("status", path)
        try:
            node = self._node(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if isinstance(node, _Folder):
            return FileStatus(size=0, is_folder=True)
        return FileStatus(size=len(node.data), is_folder=False)

    def rename(self, path: str, new_path: str) -> None:
        self._enter("rename", path)
        folder, name = self._parent(path)
        new_folder, new_name = self._parent(new_path)
        assert folder is new_folder, "a rename stays in its folder"
        node = self._node(path)
        replaced = folder.names.get(new_name)
        if isinstance(replaced, _Folder) and (replaced.names or not isinstance(node, _Folder)):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), new_path)
        self._change_name(folder, _NameChange(self.changes, new_name, node, old_name=name))
        for handle, known in self._paths.items():
            if known == path or known.startswith(f"{path}/"):
                self._paths[handle] = new_path + known[len(path) :]

    def unlink(self, path: str) -> None:
        self._enter("unlink", path)
        self._file(path)
        folder, name = self._parent(path)
        self._change_name(folder, _NameChange(self.changes, name, None))

    def make_folder(self, path: str) -> None:
        self._enter("make_folder", path)
        folder, name = self._parent(path)
        if name in folder.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._change_name(folder, _NameChange(self.changes, name, _Folder()))

    def remove_folder(self, path: str) -> None:
        self._enter("remove_folder", path)
        if self._folder(path).names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        folder, name = self._parent(path)
        self._change_name(folder, _NameChange(self.changes, name, None))

    def list_folder(self, path: str) -> list[str]:
        self._enter("list_folder", path)
        return sorted(self._folder(path).names)

    def lock(self, path: str) -> int:
        folder, name = self._parent(path)
        if name not in folder.names:
            return self._locked(self.create(path))
        file = self._file(path)
        if file.is_locked:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), path)
        return self._locked(self._handle(file, path))

    def free_space(self, path: str) -> int:  # noqa: ARG002  (there is one file system)
        return self.capacity - self.used() if self.capacity else 1 << 50

    # how calls fail

    def _enter(self, call: str, path: str, partly: Callable[[float], None] | None = None) -> None:
        """Count a call, and let it fail if that was asked for, with `partly` done."""
        if self._is_gone:
            raise PowerLost
        self.calls += 1
        if call in CHANGES:
            self.changes += 1
            self.last_change = (call, path)
            if self._cut_after > 0:
                self._cut_after -= 1
                if self._cut_after == 0:
                    if partly is not None:
                        partly(self._chance.below(1000) / 1000)
                    self._is_gone = True
                    raise PowerLost
        for fault in self._faults:
            if not fault.meets(call, path):
                continue
            if fault.countdown > 0:
                fault.countdown -= 1
            elif not fault.is_lasting:
                continue
            if fault.countdown == 0:
                if not fault.is_lasting:
                    fault.countdown = -1
                if partly is not None:
                    partly(fault.part)
                raise OSError(fault.number, os.strerror(fault.number))

    def _write(self, handle: int, content: bytes, offset: int) -> None:
        file = self._handles[handle]
        growth = offset + len(content) - len(file.data)
        if self.capacity and growth > 0:
            room = self.capacity - self.used()
            if growth > room:
                content = content[: max(0, len(content) - (growth - room))]
                self._put(file, content, offset)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._put(file, content, offset)

    def _sync_some(self, file: _File) -> None:
        """Do what a sync that fails has done; what did not arrive never will."""
        kept = {page for page in sorted(file.dirty) if self._chance.below(2)}
        _make_durable(file, kept, len(file.data) if self._chance.below(2) else len(file.durable))
        file.dirty.clear()

    def _put(self, file: _File, content: bytes, offset: int) -> None:
        if not content:
            return
        start = min(offset, len(file.data))
        if len(file.data) < offset:
            file.data.extend(bytes(offset - len(file.data)))
        file.data[offset : offset + len(content)] = content
        file.dirty.update(range(start // PAGE_SIZE, (offset + len(content) - 1) // PAGE_SIZE + 1))

    def used(self) -> int:
        """Give the size of all files, those too that are only open still."""
        held = {id(file): file for file in _files_in(self._root)}
        held.update((id(file), file) for file in self._handles.values())
        return sum(len(file.data) for file in held.values())

    # paths and handles

    def _handle(self, file: _File, path: str) -> int:
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = file
        self._paths[handle] = path
        return handle

    def _locked(self, handle: int) -> int:
        self._handles[handle].is_locked = True
        return handle

    def _node(self, path: str) -> _File | _Folder:
        node: _File | _Folder = self._root
        for name in path.split("/"):
            if not name:
                continue
            if isinstance(node, _File):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            if name not in node.names:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            node = node.names[name]
        return node

    def _file(self, path: str) -> _File:
        node = self._node(path)
        if isinstance(node, _Folder):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return node

    def _folder(self, path: str) -> _Folder:
        node = self._node(path)
        if isinstance(node, _File):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return node

    def _parent(self, path: str) -> tuple[_Folder, str]:
        folder, name = os.path.split(path)
        return self._folder(folder), name

    def _change_name(self, folder: _Folder, change: _NameChange) -> None:
        folder.waiting.append(change)
        change.apply(folder.names)

    # what is left

    def _successor(self, root: _Folder) -> "FaultyFiles":
        self._is_gone = True
        after = FaultyFiles(self._chance.bits64(), capacity=self.capacity)
        after._root = root
        return after

    def _surviving_folder(
        self, folder: _Folder, horizon: int | None, stale: list[bytes], seen: "dict[int, _File]"
    ) -> _Folder:
        names = dict(folder.durable)
        for change in folder.waiting:
            if change.moment <= horizon if horizon is not None else self._chance.below(2):
                change.apply(names)
        after = _Folder()
        for name, node in names.items():
            if isinstance(node, _Folder):
                after.names[name] = self._surviving_folder(node, horizon, stale, seen)
                continue
            if id(node) not in seen:
                seen[id(node)] = self._surviving_file(node, stale)
            after.names[name] = seen[id(node)]
        after.durable = dict(after.names)
        return after

    def _surviving_file(self, file: _File, stale: list[bytes]) -> _File:
        chance = self._chance
        old_size, new_size = len(file.durable), len(file.data)
        size = (old_size, new_size, min(old_size, new_size) + chance.below(abs(new_size - old_size) + 1))[
            chance.below(3)
        ]
        content = bytearray(file.durable)
        content.extend(bytes(max(0, size - len(content))))
        for page in sorted(file.dirty):
            start = page * PAGE_SIZE
            stop = min(start + PAGE_SIZE, size)
            if start >= stop:
                continue
            fate = chance.below(8)
            if fate < 3:
                content[start:stop] = _padded(file.data[start:stop], stop - start)
            elif fate < 5:
                for sector in range(start, stop, SECTOR_SIZE):
                    if chance.below(2):
                        end = min(sector + SECTOR_SIZE, stop)
                        content[sector:end] = _padded(file.data[sector:end], end - sector)
            elif fate == 5 and start >= old_size and stale:
                other = stale[chance.below(len(stale))]
                place = chance.below(len(other) // PAGE_SIZE + 1) * PAGE_SIZE
                content[start:stop] = _padded(other[place : place + stop - start], stop - start)
        del content[size:]
        return _File(data=content, durable=bytearray(content))


def _padded(content: bytes | bytearray, size: int) -> bytes:
    return bytes(content).ljust(size, b"\0")


def _make_names_durable(folder: _Folder) -> None:
    folder.durable = dict(folder.names)
    folder.waiting.clear()


def _make_durable(file: _File, pages: set[int], size: int) -> None:
    if len(file.durable) < size:
        file.durable.extend(bytes(size - len(file.durable)))
    del file.durable[size:]
    for page in pages:
        start = page * PAGE_SIZE
        stop = min(start + PAGE_SIZE, size)
        if start < stop:
            file.durable[start:stop] = file.data[start:stop]


def _folders_in(folder: _Folder) -> Iterator[_Folder]:
    """Give a folder and all below it, those that only the medium still names too."""
    yield folder
    nodes = {id(node): node for node in (*folder.names.values(), *folder.durable.values())}
    for node in nodes.values():
        if isinstance(node, _Folder):
            yield from _folders_in(node)


def _files_in(folder: _Folder) -> Iterator[_File]:
    for each in _folders_in(folder):
        yield from (node for node in each.names.values() if isinstance(node, _File))
