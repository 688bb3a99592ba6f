"""A link carries bytes both ways, loses them while it is cut, and carries again when it is mended."""

import asyncio

import pytest

from deploy.faults.links import Link
from tests.servers import free_port

HOST = "127.0.0.1"
SOON_S = 0.2


@pytest.fixture
async def echo():
    """A server that says everything back; the port on which it does."""

    async def answer(reader, writer):
        while piece := await reader.read(1000):
            writer.write(piece)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(answer, HOST, port):
        yield port


@pytest.fixture
async def link(echo):
    """A link to it."""
    made = Link(free_port(), echo)
    await made.open()
    yield made
    made.close()


async def said_back(reader, writer, text):
    writer.write(text)
    return await asyncio.wait_for(reader.readexactly(len(text)), 10)


async def test_what_is_sent_arrives_and_so_does_the_answer(link):
    reader, writer = await asyncio.open_connection(HOST, link.port)
    assert await said_back(reader, writer, b"one") == b"one"
    writer.close()
    assert await reader.read() == b""


async def test_while_it_is_cut_nothing_arrives_and_nobody_is_told(link):
    reader, writer = await asyncio.open_connection(HOST, link.port)
    assert await said_back(reader, writer, b"before") == b"before"
    with link.cut():
        writer.write(b"lost")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), SOON_S)
    assert await reader.read() == b""  # mended: it is closed, and "lost" does not come late
    writer.close()


async def test_a_connection_that_is_made_over_a_mended_link_works(link):
    with link.cut():
        pass
    reader, writer = await asyncio.open_connection(HOST, link.port)
    assert await said_back(reader, writer, b"again") == b"again"
    writer.close()
