"""The server as a process: start, port, stop."""

import http.client
import socket
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import ollama
import pytest
from model_process import Running, launch, wait_until_it_answers


def test_loading_is_told_and_the_port_is_closed_until_then(tmp_path: Path) -> None:
    running = launch(tmp_path)
    try:
        ready = running.wait_for("ready")
        assert [line["event"] for line in running.lines()][:3] == ["loading", "loading", "ready"]
        assert ready["load_s"] > 0
        wait_until_it_answers(ready["address"])
    finally:
        assert running.stop() == 0
    assert running.lines()[-1]["event"] == "stopped"


def test_a_taken_port_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        begun = time.monotonic()
        running = launch(tmp_path, taken.getsockname()[1])
        assert running.process.wait(20) == 2
    assert "in use" in running.lines()[-1]["error"]
    assert time.monotonic() - begun < 15


def test_sigterm_ends_a_running_generation_and_the_process(tmp_path: Path) -> None:
    running = launch(tmp_path)
    url = running.wait_for("ready")["address"]
    wait_until_it_answers(url)
    seen: list[str] = []

    def read() -> None:
        try:
            with ollama.Client(url) as client:
                for part in client.generate("smollm2:135m", "A long story.", stream=True):
                    seen.append(part.response or "")  # noqa: PERF401 - others watch it grow
        except ollama.ResponseError as error:
            seen.append(error.error)

    reader = threading.Thread(target=read)
    reader.start()
    deadline = time.monotonic() + 20
    while not seen and time.monotonic() < deadline:
        time.sleep(0.01)
    begun = time.monotonic()
    assert running.stop() == 0
    reader.join(5)
    assert time.monotonic() - begun < 5
    assert seen[-1] == "the server is stopping"


def test_the_engine_opens_no_port_of_its_own(server: Running) -> None:
    listing = subprocess.run(
        ["ss", "-ltnpH"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    own = [line for line in listing.splitlines() if f"pid={server.process.pid}," in line]
    assert len(own) == 1


def test_a_body_that_stops_coming_does_not_hold_others_up(server: Running) -> None:
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port)) as half:
        half.sendall(b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=5)
        with closing(connection):
            connection.request("GET", "/api/version")
            assert connection.getresponse().status == 200


@pytest.mark.parametrize("port", ["-1", "x"])
def test_a_bad_port_is_refused_with_a_sentence(tmp_path: Path, port: str) -> None:
    running = launch(tmp_path, port)
    assert running.process.wait(20) == 2
    assert "Traceback" not in running.log.read_text()
