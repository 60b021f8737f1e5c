"""What the lookup index knows of a subject in constant use, so that it need not be looked up."""


class Known:
    """What is known of a subject in the appended state. `first` and `last` are 0 while they are not."""

    __slots__ = ("count", "first", "floor", "last")

    def __init__(self, count: int) -> None:
        self.count = count
        self.first = 0
        self.last = 0
        self.floor = 0
        """The first sequence is not below this."""

    def add(self, sequence: int) -> None:
        if self.count == 0:
            self.first = self.floor = sequence
        self.count += 1
        self.last = sequence

    def remove(self, sequence: int) -> None:
        self.count -= 1
        if sequence == self.first:
            self.first = 0
            self.floor = sequence + 1
        if sequence == self.last:
            self.last = 0
        if self.count == 1:
            self.first = self.last = self.first or self.last
