"""One real model server process for the session, on a port that it chose itself."""

from collections.abc import AsyncIterator, Iterator

import ollama
import pytest
from model_process import Running, launch, wait_until_it_answers


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The session's server, ready."""
    running = launch(tmp_path_factory.mktemp("model-server"))
    try:
        running.url = running.wait_for("ready")["address"]
        wait_until_it_answers(running.url)
        yield running
    finally:
        running.stop()


@pytest.fixture
def client(server: Running) -> Iterator[ollama.Client]:
    """The unmodified client."""
    with ollama.Client(server.url) as one:
        yield one


@pytest.fixture
async def aclient(server: Running) -> AsyncIterator[ollama.AsyncClient]:
    """The unmodified asynchronous client."""
    async with ollama.AsyncClient(server.url) as one:
        yield one
