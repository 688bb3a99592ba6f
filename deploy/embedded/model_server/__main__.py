"""Starts the model server: `python -m deploy.embedded.model_server --port N [--host H]`.

The port is claimed first, so a collision shows in milliseconds and not after loading; connections
are accepted only when both models are in memory, so an answer of `/api/version` means ready.
SIGTERM and SIGINT end running generations with an error and leave with status 0.
"""

import argparse
import os
import socket
import sys
import time
from pathlib import Path
from types import FrameType

import uvicorn

from bus.tls import is_loopback, serving_from
from deploy.embedded.model_server.app import ModelServer
from deploy.embedded.model_server.embedder import Embedder
from deploy.embedded.model_server.engine import ChatEngine
from deploy.embedded.model_server.journal import say
from deploy.embedded.model_server.weights import (
    CHAT,
    EMBEDDING,
    WeightsMissingError,
    find,
)
from deploy.embedded.model_server.wordpiece import vocabulary

CONNECTIONS_MAX = 256
DRAIN_S = 3
PORT_MAX = 65_535
EXIT_CANNOT_START = 2


class _Server(uvicorn.Server):
    """uvicorn that ends generations first, and does not die by the signal it has handled."""

    def __init__(self, config: uvicorn.Config, engine: ChatEngine) -> None:
        super().__init__(config)
        self._engine = engine

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin the shutdown; a second signal skips the wait for clients."""
        say("stopping", signal=sig)
        self._engine.stop()
        self.force_exit = self.should_exit
        self.should_exit = True


def main() -> int:
    """Load, serve until told to stop, and return the exit status."""
    asked = _arguments()
    try:
        listener = _claim(asked.host, asked.port)
        weights = (find(CHAT), find(EMBEDDING))
    except (OSError, WeightsMissingError) as error:
        say("cannot start", error=str(error))
        return EXIT_CANNOT_START
    begun = time.monotonic()
    say("loading", model=CHAT.name, bytes=weights[0].size_bytes)
    engine = ChatEngine(weights[0].path)
    say("loading", model=EMBEDDING.name, bytes=weights[1].size_bytes)
    embedder = Embedder(weights[1].path)
    vocabulary()
    scheme = "https" if asked.certificate else "http"
    address = f"{scheme}://{asked.host}:{listener.getsockname()[1]}"
    say(
        "ready",
        address=address,
        load_s=round(time.monotonic() - begun, 3),
        pid=os.getpid(),
    )
    app = ModelServer(weights, engine, embedder).app()
    _Server(_config(app, asked.certificate), engine).run(sockets=[listener])
    say("stopped")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded.model_server")
    parser.add_argument("--port", type=_port, required=True, help="0 takes any free port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--certificate", type=Path, help="key and certificate: serve over TLS")
    asked = parser.parse_args()
    if asked.certificate is None and not is_loopback(asked.host):
        parser.error(f"would listen on {asked.host} in plain text: give a --certificate")
    return asked


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= PORT_MAX:
        raise ValueError(f"no port: {text}")
    return number


def _claim(host: str, port: int) -> socket.socket:
    """Bind without listening: claimed, and refusing connections until the server listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    claimed = socket.socket(family, socket.SOCK_STREAM)
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    claimed.bind((host, port))
    return claimed


def _config(app: object, certificate: Path | None) -> uvicorn.Config:
    context = serving_from(certificate) if certificate else None
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        lifespan="off",
        access_log=False,
        log_level="warning",
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=DRAIN_S,
        server_header=False,
        ssl_context_factory=(lambda *_: context) if context else None,
    )


if __name__ == "__main__":
    sys.exit(main())
