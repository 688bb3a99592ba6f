"""HTTP by hand: bytes out, bytes in, nothing corrected on the way."""

import asyncio
import contextlib
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n")
ANSWER_S = 15.0
Test = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        assert len(found) <= 1, (name, found)
        return found[0] if found else None

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Raw:
    """Connections to one port."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key
        self.host = f"127.0.0.1:{port}".encode()

    async def say(self, *pieces: bytes, pause_s: float = 0) -> list[Answer]:
        """Send the pieces; every answer until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(ANSWER_S):
                with contextlib.suppress(ConnectionError):
                    for piece in pieces:
                        writer.write(piece)
                        await writer.drain()
                        if pause_s:
                            await asyncio.sleep(pause_s)
                return await read_all(reader)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(
        self, target: bytes = b"/api/v1/auth/me", *lines: bytes, method: bytes = b"GET",
        body: bytes = b"", host: bytes | None = None, key: bool = True, version: bytes = b"1.1",
    ) -> Answer:  # fmt: skip
        """One request that ends its connection; exactly one answer comes."""
        head = [method + b" " + target + b" HTTP/" + version, b"connection: close"]
        if host != b"-":
            head.append(b"host: " + (host or self.host))
        if key:
            head.append(b"authorization: Bearer " + self.key.encode())
        if body:
            head.append(b"content-length: %d" % len(body))
        answers = await self.say(b"\r\n".join([*head, *lines, b"", body]))
        assert len(answers) == 1, answers
        return answers[0]


def each(names: str | tuple[str, ...], cases: Any) -> Callable[[Test], Test]:
    """Run a test once for each case, all against one edge, and tell of all that fail."""
    named = (names,) if isinstance(names, str) else names
    labelled = cases if isinstance(cases, Mapping) else {str(case)[:60]: case for case in cases}

    def decorate(test: Test) -> Test:
        async def over(**fixtures: Any) -> None:
            failed = []
            for label, case in labelled.items():
                values = (case,) if len(named) == 1 else case
                try:
                    await test(**fixtures, **dict(zip(named, values, strict=True)))
                except (AssertionError, TimeoutError) as wrong:
                    failed.append(f"{label}: {wrong!r}")
            assert failed == []

        signature = inspect.signature(test)
        kept = [p for name, p in signature.parameters.items() if name not in named]
        over.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        over.__name__ = test.__name__
        return over

    return decorate


async def read_all(reader: asyncio.StreamReader) -> list[Answer]:
    """Every answer on a connection."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65_536):
            data += piece
    answers = []
    while data:
        match = STATUS.match(data)
        assert match, data[:200]
        head, _, rest = data[match.end() :].partition(b"\r\n\r\n")
        lines = [line.decode("latin-1").partition(": ") for line in head.split(b"\r\n") if line]
        headers = [(name.lower(), value) for name, _, value in lines]
        length = int(dict(headers).get("content-length", "0"))
        body, data = rest[:length], rest[length:]
        if dict(headers).get("transfer-encoding") == "chunked":
            body, data = rest, b""
        answers.append(Answer(int(match[1]), headers, body))
    return answers
