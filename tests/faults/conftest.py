"""A handlers process as it is shipped, that dies where a test says."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus import lifecycle
from bus.credentials import ensure_signing_keys, write_secret
from bus.settings import Settings

ROOT = Path(__file__).parent.parent.parent


class Handlers:
    """`python -m handlers`, started again and again on the same servers."""

    def __init__(self, settings: Settings) -> None:
        self._secrets = lifecycle.secrets_folder(settings)
        ensure_signing_keys(self._secrets)
        for name in ("nats_url", "postgres_url", "redis_url"):
            url = getattr(settings, name).get_secret_value()
            write_secret(self._secrets / f"portal_{name}", url.encode())
        self._environment = os.environ | {
            "PORTAL_SECRETS": str(self._secrets),
            "PORTAL_DATA": str(settings.data),
            "PORTAL_OLLAMA_URL": settings.ollama_url,
            "PORTAL_LOG_LEVEL": "error",
        }
        self._log = (settings.data / "handlers.log").open("ab")
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, fault: str | None = None) -> "subprocess.Popen[bytes]":
        """Start one; with a fault it dies there, as if by kill -9."""
        environment = self._environment | ({"PORTAL_FAULT": fault} if fault else {})
        started = subprocess.Popen(
            [sys.executable, "-m", "handlers"],
            env=environment, cwd=ROOT, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        self.running.append(started)
        return started

    async def died(self, handlers: "subprocess.Popen[bytes]", timeout_s: float = 40) -> None:
        """Wait until it is dead by SIGKILL; a fault point that never comes fails the test."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while handlers.poll() is None:
                    await asyncio.sleep(0.05)
        assert handlers.poll() == -signal.SIGKILL, "the fault point was never reached"

    def stop(self) -> None:
        """End them all."""
        for handlers in self.running:
            if handlers.poll() is None:
                handlers.kill()
            handlers.wait()
        self._log.close()


@pytest.fixture
async def handlers(settings: Settings, bus_ready: None) -> AsyncIterator[Handlers]:
    """Handlers processes of this test."""
    started = Handlers(settings)
    yield started
    started.stop()
