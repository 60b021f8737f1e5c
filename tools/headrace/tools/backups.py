"""Backups of streams through the server's snapshot and restore endpoints.

A backup is a file of

    magic (8) | size of the head (4) | head, JSON | the snapshot's bytes, as the server sent them | SHA-256 (32)

The head holds the stream's configuration and state as the server told them; the digest is that of all before it. What
the snapshot's bytes mean is the server's own matter. A file is written under another name and renamed when it is whole
and on disk; before one byte of a file is sent back, all of it is read and its digest compared.
"""

import asyncio
import hashlib
import json
import os
import struct
from collections.abc import AsyncIterator
from typing import Any, Final

import aiofiles
import aiofiles.os
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from headrace.tools.wire import Api, CommandFailed

MAGIC: Final = b"HRBACK01"
DIGEST_SIZE: Final = 32
HEAD_SIZE_MAX: Final = 16 * 1024 * 1024
CHUNK_SIZE: Final = 128 * 1024
WINDOW_SIZE: Final = 8 * 1024 * 1024
CHUNKS_IN_FLIGHT: Final = 16
SILENCE_S: Final = 10.0

_SIZE: Final = struct.Struct("<I")
_WHOLE: Final = ("", "204")
_PARTIAL: Final = ".part"


async def back_up(api: Api, name: str, path: str, *, consumers: bool = True) -> dict[str, Any]:
    """Write a stream to a new file, and give the head that was written; raises CommandFailed, OSError."""
    if await aiofiles.os.path.exists(path):
        raise CommandFailed(f"{path} exists already")
    partial = path + _PARTIAL
    try:
        head = await _receive(api, name, partial, with_consumers=consumers)
        await aiofiles.os.rename(partial, path)
    except BaseException:
        if await aiofiles.os.path.exists(partial):
            await aiofiles.os.remove(partial)
        raise
    return head


async def _receive(api: Api, name: str, path: str, *, with_consumers: bool) -> dict[str, Any]:
    inbox = api.client.new_inbox()
    chunks = await api.client.subscribe(inbox, pending_bytes_limit=-1, pending_msgs_limit=-1)
    asked = {
        "deliver_subject": inbox,
        "chunk_size": CHUNK_SIZE,
        "window_size": WINDOW_SIZE,
        "no_consumers": not with_consumers,
    }
    try:
        answer = await api.request(f"STREAM.SNAPSHOT.{name}", asked)
        head = {"stream": name, "config": answer["config"], "state": answer["state"]}
        text = json.dumps(head).encode()
        digest = hashlib.sha256()
        async with aiofiles.open(path, "wb") as file:
            for part in (MAGIC, _SIZE.pack(len(text)), text):
                digest.update(part)
                await file.write(part)
            while (chunk := await _next(chunks.next_msg(SILENCE_S), name)).data:
                digest.update(chunk.data)
                await file.write(chunk.data)
                if chunk.reply:
                    await chunk.respond(b"")
            status = (chunk.headers or {}).get("Status", "")
            if status not in _WHOLE:
                raise CommandFailed(
                    f"the server ended the transfer: {(chunk.headers or {}).get('Description', status)}"
                )
            await file.write(digest.digest())
            await file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
    finally:
        await chunks.unsubscribe()
    return head


async def restore(api: Api, path: str, *, name: str = "") -> dict[str, Any]:
    """Make a stream of a file, and give what the server says of it; raises CommandFailed, OSError."""
    head = await check(path)
    config = head["config"] | ({"name": name} if name else {})
    target = config["name"]
    answer = await api.request(f"STREAM.RESTORE.{target}", {"config": config, "state": head["state"]})
    subject = answer["deliver_subject"]
    in_flight: set[asyncio.Task[Msg]] = set()
    try:
        async for chunk in _snapshot(path):
            in_flight.add(
                asyncio.create_task(_next(api.client.request(subject, chunk, timeout=SILENCE_S), target))
            )
            if len(in_flight) >= CHUNKS_IN_FLIGHT:
                done, in_flight = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    _check_answer(task.result())
        for receipt in await asyncio.gather(*in_flight):
            _check_answer(receipt)
    finally:
        for task in in_flight:
            task.cancel()
    return _check_answer(await _next(api.client.request(subject, b"", timeout=SILENCE_S), target))


def _check_answer(answer: Msg) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(answer.data) if answer.data else {}
    if "error" in fields:
        raise CommandFailed(f"{fields['error']['description']} ({fields['error'].get('err_code', 0)})")
    return fields


async def _next(answer: Any, name: str) -> Msg:  # noqa: ANN401  (what the client library gives to await)
    try:
        message: Msg = await answer
    except NatsError as error:
        raise CommandFailed(f"the transfer of {name} stopped: {str(error) or type(error).__name__}") from None
    return message


async def check(path: str) -> dict[str, Any]:
    """Read a whole backup, and give its head; raises CommandFailed where a byte is missing or another one."""
    size = (await aiofiles.os.stat(path)).st_size
    digest = hashlib.sha256()
    async with aiofiles.open(path, "rb") as file:
        prefix = await file.read(len(MAGIC) + _SIZE.size)
        if not prefix.startswith(MAGIC) or len(prefix) < len(MAGIC) + _SIZE.size:
            raise CommandFailed(f"{path} is no backup of a stream")
        (length,) = _SIZE.unpack_from(prefix, len(MAGIC))
        rest = size - len(prefix) - DIGEST_SIZE
        if length > min(rest, HEAD_SIZE_MAX):
            raise CommandFailed(f"{path} is damaged: nothing was restored")
        text = await file.read(length)
        digest.update(prefix)
        digest.update(text)
        rest -= length
        while rest:
            part = await file.read(min(rest, CHUNK_SIZE))
            digest.update(part)
            rest -= len(part)
        if await file.read(DIGEST_SIZE) != digest.digest():
            raise CommandFailed(f"{path} is damaged: nothing was restored")
    head: dict[str, Any] = json.loads(text)
    return head


async def _snapshot(path: str) -> AsyncIterator[bytes]:
    size = (await aiofiles.os.stat(path)).st_size
    async with aiofiles.open(path, "rb") as file:
        prefix = await file.read(len(MAGIC) + _SIZE.size)
        (length,) = _SIZE.unpack_from(prefix, len(MAGIC))
        await file.seek(len(prefix) + length)
        rest = size - len(prefix) - length - DIGEST_SIZE
        while rest:
            part = await file.read(min(rest, CHUNK_SIZE))
            if not part:
                raise CommandFailed(f"{path} was cut short while it was read")
            rest -= len(part)
            yield part
