"""What became of subjects within a stretch of a log: the lookup index's unit of memory and of writing.

A layer holds differences, not states: to a subject's messages some were added and some removed. Laid over each other in
order, on top of the rows on disk, layers give the state. A layer may begin by clearing everything below it.

Most subjects of a busy log are appended to once a layer: such a difference is the sequence itself, a plain integer,
which takes a sixth of the memory of a `Delta`.
"""

from headrace.storage.index_interface import Position


class Delta:
    """Messages of one subject that came and went. One that came and went is in both."""

    __slots__ = ("added", "removed")

    def __init__(self, added: list[int], removed: set[int]) -> None:
        self.added = added
        self.removed = removed

    @property
    def net(self) -> int:
        return len(self.added) - len(self.removed)


class Layer:
    """The differences between two positions of a log. `position` is None while it is still being added to."""

    __slots__ = ("deltas", "ids", "is_cleared", "notes", "position")

    def __init__(self) -> None:
        self.deltas: dict[bytes, int | Delta] = {}
        self.ids: dict[bytes, tuple[int, int]] = {}
        self.is_cleared = False
        self.notes = 0
        self.position: Position | None = None

    def add(self, sequence: int, subject: bytes) -> None:
        self.notes += 1
        delta = self.deltas.get(subject)
        if delta is None:
            self.deltas[subject] = sequence
        elif isinstance(delta, int):
            self.deltas[subject] = Delta([delta, sequence], set())
        else:
            delta.added.append(sequence)

    def add_run(self, first: int, count: int, subject: bytes) -> None:
        """Add messages that follow one another, two at least."""
        self.notes += count
        run = range(first, first + count)
        delta = self.deltas.get(subject)
        if delta is None:
            self.deltas[subject] = Delta([*run], set())
        elif isinstance(delta, int):
            self.deltas[subject] = Delta([delta, *run], set())
        else:
            delta.added.extend(run)

    def remove(self, sequence: int, subject: bytes) -> None:
        self.notes += 1
        delta = self.deltas.get(subject)
        if delta is None:
            self.deltas[subject] = Delta([], {sequence})
        elif isinstance(delta, int):
            self.deltas[subject] = Delta([delta], {sequence})
        else:
            delta.removed.add(sequence)

    def add_id(self, message_id: bytes, sequence: int, time_ns: int) -> None:
        self.notes += 1
        self.ids[message_id] = (sequence, time_ns)

    def clear(self) -> None:
        """All messages went, those added here too."""
        self.deltas.clear()
        self.is_cleared = True

    def absorb(self, later: "Layer") -> None:
        """Take in the layer that follows; it is not used afterwards."""
        if later.is_cleared:
            self.clear()
        self.ids.update(later.ids)
        self.notes += later.notes
        self.position = later.position
        deltas = self.deltas
        if not deltas:
            self.deltas = later.deltas
            return
        for subject, addition in later.deltas.items():
            delta = deltas.get(subject)
            if delta is None:
                deltas[subject] = addition
                continue
            if isinstance(delta, int):
                delta = deltas[subject] = Delta([delta], set())
            if isinstance(addition, int):
                delta.added.append(addition)
            else:
                delta.added.extend(addition.added)
                delta.removed |= addition.removed


def as_delta(delta: int | Delta) -> Delta:
    """Give the long form."""
    return Delta([delta], set()) if isinstance(delta, int) else delta
