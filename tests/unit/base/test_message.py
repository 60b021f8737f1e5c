"""The plain batch remembers what it holds."""

from headrace.core.base.message import Message, MessageBatch


def test_a_batch_knows_its_size_and_whether_it_is_bare() -> None:
    bare = Message(b"a.b", b"_INBOX.1", b"", b"12345", 1)
    headed = Message(b"a", b"", b"NATS/1.0\r\n\r\n", b"", 1)
    assert MessageBatch([bare, bare]).size == 16
    assert MessageBatch([bare]).bare
    assert not MessageBatch([bare, headed]).bare
    assert MessageBatch([headed]).size == 13
