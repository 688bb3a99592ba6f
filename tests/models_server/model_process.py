"""The model server as a child process of the tests."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ollama

ROOT = Path(__file__).parents[2]
START_S_MAX = 60.0
STOP_S_MAX = 5.0


@dataclass
class Running:
    """A started server: its process, its log file and its address."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str = ""

    def lines(self) -> list[dict[str, Any]]:
        """The log so far; a line that is still being written is left out."""
        complete = self.log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in complete.splitlines() if line.startswith("{")]

    def wait_for(self, event: str, timeout_s: float = START_S_MAX) -> dict[str, Any]:
        """The first log line of `event`."""
        return self.wait_for_count(event, 1, timeout_s)[0]

    def wait_for_count(self, event: str, count: int, timeout_s: float) -> list[dict[str, Any]]:
        """All log lines of `event` once there are `count`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = [line for line in self.lines() if line["event"] == event]
            if len(found) >= count:
                return found
            time.sleep(0.01)
        raise AssertionError(f"no {count} x {event!r} in {self.log.read_text()}")

    def cpu_s(self) -> float:
        """CPU seconds that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """Ask it to stop and return its exit status; kills it if it does not."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S_MAX)
        finally:
            self.process.kill()
            self.process.wait()


def launch(folder: Path, port: int | str = 0) -> Running:
    """Start a server and return at once; with port 0 the log's `ready` line has the address."""
    log = folder / "model-server.log"
    command = [sys.executable, "-m", "deploy.embedded.model_server", "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
    return Running(process, log)


def wait_until_it_answers(url: str) -> None:
    """Poll until the listener is open."""
    deadline = time.monotonic() + START_S_MAX
    with ollama.Client(url) as client:
        while True:
            try:
                client.list()
                return
            except ConnectionError:
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.02)
