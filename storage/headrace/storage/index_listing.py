"""The rows of a log's subjects, in the order of subjects."""

from collections.abc import Iterator
from typing import Final

from headrace.storage.index_rows import (
    KEY_SIZE_MAX,
    LogRow,
    SubjectRow,
    parse_subject,
    prefix_bytes,
    prefix_end,
    unseal,
)
from headrace.storage.index_tables import Table, Transaction

PAGE: Final = 512
"""How many rows are taken at a time."""


def rows_behind(transaction: Transaction, log: LogRow, after: bytes) -> Iterator[SubjectRow]:
    """Give the rows of subjects behind `after`, in the order of subjects.

    Keys are in that order too, but for subjects with the same first `KEY_SIZE_MAX` bytes, whose keys are hashes:
    these are collected and sorted.
    """
    prefix = prefix_bytes(log.subject_prefix)
    start = prefix + after[:KEY_SIZE_MAX]
    stop = prefix_end(log.subject_prefix)
    alike: list[SubjectRow] = []
    while True:
        page = transaction.rows(Table.SUBJECTS, start, stop, PAGE)
        for key, value in page:
            row = parse_subject(key, unseal(key, value))
            if row.subject <= after and after:
                continue
            if alike and alike[0].subject[:KEY_SIZE_MAX] != row.subject[:KEY_SIZE_MAX]:
                yield from sorted(alike)
                alike.clear()
            if len(row.subject) < KEY_SIZE_MAX:
                yield row
            else:
                alike.append(row)
        if len(page) < PAGE:
            break
        start = page[-1][0] + b"\0"
    yield from sorted(alike)
