"""Starts that are refused, each with its code and its cure."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded import postgres_server
from deploy.embedded.stack import Servers

pytestmark = pytest.mark.timeout(120)
IN_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


def namespaces_work() -> bool:
    return subprocess.run([*IN_NAMESPACE, "true"], check=False, capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(not namespaces_work(), reason="user namespaces are refused")


def refused(process: Any) -> str:
    """What a start said that ended with status 2."""
    said: str = process.communicate(timeout=60)[1]
    assert process.returncode == 2, said
    return said


@needs_namespaces
def test_a_full_disk_is_said_before_anything_starts(foreground: Any) -> None:
    mount = f"mount -t tmpfs -o size=64m none {foreground.data} && exec " + " ".join(
        foreground.command("up", "--only", "servers")
    )
    said = refused(foreground.start(command=(*IN_NAMESPACE, mount)))
    assert "ERR_702" in said
    assert "512 MB needed" in said


@needs_namespaces
def test_a_read_only_data_folder_is_refused(foreground: Any) -> None:
    mount = f"mount -t tmpfs -o ro none {foreground.data} && exec " + " ".join(
        foreground.command("up", "--only", "servers")
    )
    assert "ERR_701" in refused(foreground.start(command=(*IN_NAMESPACE, mount)))


def test_a_file_in_place_of_the_data_folder_is_refused(foreground: Any, root: Path) -> None:
    (root / "file").write_text("")
    foreground.environment["PORTAL_DATA"] = str(root / "file")
    assert "ERR_701" in refused(foreground.start())


def test_data_of_another_postgres_version_is_refused_and_untouched(foreground: Any) -> None:
    data = foreground.data / "postgres" / "data"
    (data / "PG_VERSION").write_text("15\n")
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    said = refused(foreground.start())
    assert "ERR_703" in said
    assert "Postgres 15, this is Postgres 18" in said
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--external", "ftp://127.0.0.1"), "begins with one of"),
        (("--external", "nats://a", "--external", "nats://b"), "names nats twice"),
        (("--handlers", "0"), "at least one"),
    ],
)
def test_an_argument_without_sense_is_refused(
    foreground: Any, arguments: tuple[str, ...], reason: str
) -> None:
    said = refused(foreground.start(*arguments))
    assert "ERR_706" in said
    assert reason in said


def test_a_folder_too_deep_for_a_socket_path_still_works(foreground: Any) -> None:
    deep = foreground.data / ("d" * 60) / ("e" * 60)
    foreground.environment["PORTAL_DATA"] = str(deep)
    foreground.data = deep
    process = foreground.up()
    assert foreground.stop(process) == 0
    assert not (deep / "run" / "sockets").exists()
    assert list(Path("/tmp").glob(f"portal-{os.getuid()}-*")) == []


@needs_namespaces
@pytest.mark.skipif(os.getuid() != 0, reason="the other tests run as an ordinary user then")
@pytest.mark.parametrize("uid", [1, 61_234], ids=["with a name", "without a name"])
def test_an_ordinary_user_needs_nothing_special(foreground: Any, uid: int) -> None:
    ordinary = ("unshare", "--user", f"--map-user={uid}", f"--map-group={uid}")
    process = foreground.up(prefix=ordinary)
    assert foreground.stop(process) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root has to step down")
async def test_root_steps_down_to_nobody_where_namespaces_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "NAMESPACE", ("false",))
    postgres_server.run_as.cache_clear()
    root.chmod(0o711)
    try:
        async with Servers(root / "s", durable=False, want={"postgres"}):
            owner = (root / "s" / "postgres" / "data" / "PG_VERSION").stat().st_uid
            assert owner == 65534
    finally:
        postgres_server.run_as.cache_clear()
