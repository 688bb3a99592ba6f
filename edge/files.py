"""Files over HTTP, never held whole in memory.

A raw body goes into the object store while it arrives; a document's bytes come out in pieces.

The operation is told where the bytes are; its handler checks size and SHA-256 again when it reads
them, and the bucket forgets what nobody has asked for within the hour.
"""

import base64
import email.message
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson
from nats.aio.client import Client as Connection
from nats.errors import Error as NatsError
from nats.js import api
from nats.js.errors import Error as JetStreamError

from bus.topology import UPLOADS
from edge.command import body_of, merge, require_no_encoding
from edge.exchange import Call, RawHeaders
from edge.rest import OperationDoor
from schemas.contract import Json, Operation
from schemas.problems import Malformed, Unavailable

CHUNK_BYTES = 128 * 1024
PIECES_MAX = 100_000
DOWNLOAD_POLICY: RawHeaders = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"sandbox; default-src 'none'; frame-ancestors 'none'"),
]


class UploadDoor(OperationDoor):
    """An operation that also takes a file as the raw body of its request."""

    async def read(self, call: Call) -> bytes:
        """The command; of a raw body the bytes are stored first."""
        assert self.operation.upload is not None
        media_type = call.exchange.header(b"content-type") or "application/octet-stream"
        if media_type.partition(";")[0].strip().lower() == "application/json":
            values = await self._reader.read(call)
            if self.operation.upload in values:
                raise Malformed("The edge itself fills in this field.",
                                fields=[self.operation.upload])  # fmt: skip
            return self._reader.command(values)
        require_no_encoding(call)
        values = self._reader.of_query(call.scope["query_string"])
        if "name" not in values:
            values["name"] = name_in(call.exchange.header(b"content-disposition"))
        if "media_type" not in values and media_type != "application/octet-stream":
            values["media_type"] = media_type
        self._check(values)
        body = body_of(call, self.operation.body_bytes_max)
        connection = self._asking.client.connection
        fresh = self._asking.clock.new_id()
        stored = await store(connection, fresh, body, self._same_again(call))
        merge(values, {self.operation.upload: stored}, "body")
        return self._reader.command(values)

    @staticmethod
    def _same_again(call: Call) -> str | None:
        """With a key the object's name repeats, or the retry would be another request."""
        key = call.exchange.header(b"idempotency-key")
        return None if key is None else f"{call.principal.id}\0{key}"

    def _check(self, values: Json) -> None:
        """Refuse a bad name before a single byte is stored."""
        assert self.operation.upload is not None
        if self.operation.upload in values:
            raise Malformed("The edge itself fills in this field.")
        self._reader.command(values)


def name_in(disposition: str | None) -> str:
    """The file name in Content-Disposition.

    Raises:
        Malformed: There is none.
    """
    message = email.message.Message()
    message["content-disposition"] = disposition or ""
    name = message.get_filename()
    if not name:
        raise Malformed("Name the file, by ?name= or Content-Disposition.")
    return name


async def store(
    connection: Connection, fresh: str, body: AsyncIterator[bytes], seed: str | None
) -> Json:
    """Write a body into the bucket of uploads; returns what the operation needs to find it.

    Its chunks go below `fresh`; its name is `fresh` too, or follows from `seed` and the bytes.

    Raises:
        Malformed: The body is empty.
        Unavailable: The object store does not take it.
    """
    bucket = f"OBJ_{UPLOADS}"
    chunk_subject = f"$O.{UPLOADS}.C.{fresh}"
    jetstream = connection.jetstream()
    digest, size, count = hashlib.sha256(), 0, 0
    try:
        async for chunk in rechunked(body):
            await jetstream.publish(chunk_subject, chunk, stream=bucket)
            digest.update(chunk)
            size, count = size + len(chunk), count + 1
        if not size:
            raise Malformed("The body is empty.")
        name = fresh if seed is None else named(seed, digest.digest())
        await publish_meta(connection, (name, fresh), digest.digest(), size, count)
    except (NatsError, JetStreamError, OSError, TimeoutError) as broken:
        raise Unavailable("The object store does not take the file now.") from broken
    except BaseException:
        await jetstream.purge_stream(bucket, subject=chunk_subject)
        raise
    return {"object": name, "sha256": digest.hexdigest(), "size_bytes": size}


def named(seed: str, digest: bytes) -> str:
    """The name of an object whose upload may be repeated."""
    return hashlib.sha256(seed.encode() + digest).hexdigest()


async def publish_meta(
    connection: Connection, names: tuple[str, str], digest: bytes, size: int, chunks: int
) -> None:
    """Make the object visible, in the form that every NATS client reads."""
    name, chunks_below = names
    info = api.ObjectInfo(
        name=name, bucket=UPLOADS, nuid=chunks_below, size=size, chunks=chunks,
        mtime=datetime.now(UTC).isoformat(),
        digest="SHA-256=" + base64.urlsafe_b64encode(digest).decode(),
        options=api.ObjectMetaOptions(max_chunk_size=CHUNK_BYTES),
    )  # fmt: skip
    mark = base64.urlsafe_b64encode(name.encode()).decode()
    await connection.jetstream().publish(
        f"$O.{UPLOADS}.M.{mark}", orjson.dumps(info.as_dict()),
        stream=f"OBJ_{UPLOADS}", headers={api.Header.ROLLUP: "sub"},
    )  # fmt: skip


async def rechunked(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of 128 KiB."""
    held = bytearray()
    async for piece in body:
        held += piece
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


class ContentDoor(OperationDoor):
    """A document's bytes: as JSON pieces, or whole as a download."""

    async def answer(self, call: Call) -> None:
        """`Accept: application/octet-stream` or `?raw=1` asks for the download."""
        wants_raw = b"application/octet-stream" in call.exchange.headers.get(b"accept", b"")
        if call.scope["query_string"] == b"raw=1":
            call.scope["query_string"], wants_raw = b"", True
        if not wants_raw:
            await super().answer(call)
            return
        await self._download(call, await self._reader.read(call))

    async def _download(self, call: Call, values: Json) -> None:
        piece = await self._piece(call, values)
        size, offset = int(piece["size_bytes"]), int(piece["offset"])
        call.exchange.policy = DOWNLOAD_POLICY
        start = {"type": "http.response.start", "status": 200, "headers": [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % max(0, size - offset)),
            (b"content-disposition",
             f"attachment; filename*=UTF-8''{quote(piece['name'], safe='')}".encode()),
        ]}  # fmt: skip
        await call.send(start)
        for _ in range(PIECES_MAX):
            content = base64.urlsafe_b64decode(standard(piece["content"]))
            offset += len(content)
            more = offset < size and bool(content)
            await call.send({"type": "http.response.body", "body": content, "more_body": more})
            if not more:
                return
            piece = await self._piece(call, values | {"offset": offset})

    async def _piece(self, call: Call, values: Json) -> Json:
        answer = await self.ask(call, self._reader.command(values))
        piece: Json = orjson.loads(answer.body)
        return piece


def standard(text: str) -> str:
    """Base64 of either alphabet as the URL-safe one."""
    return text.replace("+", "-").replace("/", "_")


def door_class(operation: Operation[Any, Any]) -> type[OperationDoor] | None:
    """The kind of door that an operation with files needs."""
    if operation.upload is not None:
        return UploadDoor
    fields = operation.reply.model_fields
    if {"content", "offset", "size_bytes", "name"} <= fields.keys():
        return ContentDoor
    return None
