"""How a change is laid over a consumer's register: the one place for the order of its parts."""

from headrace.storage.interface import Register, RegisterChange


def apply_change(register: Register, change: RegisterChange) -> None:
    """Change `register` in place: numbers, then drops, then puts."""
    register.numbers.update(change.numbers)
    rows = register.rows
    for first, last in change.drops:
        if last - first < len(rows):
            for sequence in range(first, last + 1):
                rows.pop(sequence, None)
        else:
            for sequence in [each for each in rows if first <= each <= last]:
                del rows[sequence]
    rows.update(change.puts)


def copy_register(register: Register | None) -> Register:
    """Give a register of one's own; an empty one for None."""
    if register is None:
        return Register(numbers={}, rows={})
    return Register(numbers=dict(register.numbers), rows=dict(register.rows))
