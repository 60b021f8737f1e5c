"""The compiled engine's batch shows the same messages as the plain one."""

import pytest

from headrace.core.base.message import Message, MessageBatch

compiled_batch = pytest.importorskip("headrace.core.base.compiled_batch", reason="not built")

MESSAGES = [
    Message(b"a.b", b"", b"", b"one", 7),
    Message(b"a.b", b"_INBOX.1", b"NATS/1.0\r\n\r\n", b"", 8),
    Message(b"a", b"", b"", b"\x00three\r\n", (1 << 64) - 1),
]


def test_a_batch_gives_back_what_was_put_in() -> None:
    assert list(compiled_batch.CompiledBatch(MESSAGES)) == MESSAGES


def test_a_batch_knows_its_sums() -> None:
    batch = compiled_batch.CompiledBatch(MESSAGES)
    plain = MessageBatch(MESSAGES)
    assert (len(batch), batch.size, batch.bare) == (len(plain), plain.size, plain.bare)


def test_a_batch_lists_its_subjects() -> None:
    messages = [*MESSAGES, *MESSAGES]
    assert compiled_batch.CompiledBatch(messages).subjects() == MessageBatch(messages).subjects()


def test_a_batch_without_headers_is_bare() -> None:
    assert compiled_batch.CompiledBatch(MESSAGES[:1]).bare is True


def test_a_batch_is_indexed_from_both_ends_and_sliced() -> None:
    batch = compiled_batch.CompiledBatch(MESSAGES)
    assert batch[0] == MESSAGES[0]
    assert batch[-1] == MESSAGES[-1]
    assert batch[1:] == MESSAGES[1:]
    assert batch[::-1] == MESSAGES[::-1]


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_outside_of_the_batch_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match="of a batch of 3"):
        compiled_batch.CompiledBatch(MESSAGES)[index]


def test_a_batch_outgrows_its_first_arena() -> None:
    messages = [Message(b"s.%d" % (n // 5), b"r" * n, b"", bytes(n), n) for n in range(300)]
    assert list(compiled_batch.CompiledBatch(messages)) == messages
