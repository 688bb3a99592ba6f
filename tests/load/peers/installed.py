"""The peers, installed below a temporary folder by the ordinary clients, and thrown away."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent
RESTATE = "@restatedev/restate-server@1.7.12"
INSTALL_S = 300


@dataclass(frozen=True)
class Peers:
    """Where they are."""

    folder: Path

    @property
    def python(self) -> str:
        """An interpreter with their libraries and without ours."""
        return str(self.folder / "venv" / "bin" / "python")

    @property
    def restate(self) -> str:
        """Restate's server itself; its wrapper in Node would be one process more.

        Raises:
            FileNotFoundError: There is none for this kind of machine.
        """
        for found in self.folder.glob("node_modules/@restatedev/*/bin/restate-server"):
            return str(found)
        raise FileNotFoundError("no restate-server for this kind of machine")


@contextlib.contextmanager
def installed() -> Iterator[Peers]:
    """All of them while in the block.

    Raises:
        SystemExit: npm is missing.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("--peers needs npm, for Restate's server")
    # Below it is a socket of Postgres, whose path must be short, and nobody must get through.
    with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        print("installing the peers into a temporary folder", file=sys.stderr)
        install(sys.executable, "-m", "venv", str(folder / "venv"))
        peers = Peers(folder)
        wanted = str(PROGRAMS / "requirements.txt")
        install(peers.python, "-m", "pip", "install", "-q", "--no-input", "-r", wanted)
        # Without scripts: one of a dependency tells a server of each installation.
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        install(npm, "install", *quiet, "--prefix", name, RESTATE)
        yield peers


def install(*command: str) -> None:
    """Run to the end, without a word unless it fails."""
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, env=environment, capture_output=True, check=False, timeout=INSTALL_S
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr.decode()[-500:]}")
