"""Confined work: what a hostile function can cost, and what its caller is told."""

import asyncio
import io
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from bus import confined


async def run(name: str, argument: Any = None, **changes: Any) -> Any:
    limits: dict[str, Any] = {
        "wall_s": 10,
        "cpu_s": 5,
        "memory_mb": 256,
        "output_bytes_max": 1 << 20,
    }
    return await confined.run(f"tests.tables.hostile:{name}", argument, **(limits | changes))


async def eventually(condition: Any, timeout_s: float = 5) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(autouse=True)
def folders_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests run beside these, and leave folders for a moment."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def folders_left() -> set[str]:
    return {p.name for p in Path(tempfile.gettempdir()).glob("confined-*")}


async def test_the_function_gets_its_argument_and_its_files() -> None:
    answer = await run("echo", {"n": 10**30}, attachments={"../../a.csv": b"x", "json.py": b"y"})
    assert answer == {"argument": {"n": 10**30}, "files": {"../../a.csv": "x", "json.py": "y"}}


async def test_the_child_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTAL_SECRET", "s3cret")
    answer = await run("surroundings")
    assert "s3cret" not in str(answer["environment"])
    assert not Path(answer["folder"]).exists()


async def test_a_value_error_is_the_inputs_fault_and_its_text_is_bounded() -> None:
    with pytest.raises(confined.Failed, match="row 3 is broken") as caught:
        await run("refuse")
    assert caught.value.kind == "invalid"
    assert len(caught.value.message) == confined.MESSAGE_CHARS_MAX


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("break_down", "raised"),
        ("answer_no_json", "raised"),
        ("die", "crashed"),
        ("exit_quietly", "crashed"),
        ("no_such_function", "raised"),
    ],
)
async def test_a_broken_function_is_told_from_a_broken_input(name: str, kind: str) -> None:
    with pytest.raises(confined.Failed) as caught:
        await run(name)
    assert caught.value.kind == kind


async def test_a_function_that_sleeps_forever_is_stopped_at_its_wall_time(tmp_path: Path) -> None:
    before, started = folders_left(), time.monotonic()
    with pytest.raises(confined.TimedOut):
        await run("sleep_forever", str(tmp_path / "pid"), wall_s=1)
    assert time.monotonic() - started < 2
    assert group_is_gone(int((tmp_path / "pid").read_text().split()[0]))
    assert folders_left() <= before


async def test_a_function_that_spins_is_stopped_by_its_cpu_time() -> None:
    with pytest.raises(confined.TimedOut, match="CPU"):
        await run("spin_forever", cpu_s=1)


async def test_a_function_that_allocates_forever_hits_its_own_limit() -> None:
    with pytest.raises(confined.OutOfMemory):
        await run("allocate_forever")


async def test_everything_that_a_function_forked_dies_with_it(tmp_path: Path) -> None:
    with pytest.raises(confined.Confined):
        await run("fork_forever", str(tmp_path / "pid"), wall_s=2)
    group = int((tmp_path / "pid").read_text())
    await eventually(lambda: group_is_gone(group))


@pytest.mark.parametrize("name", ["print_forever", "answer_much"])
async def test_a_flood_of_output_is_cut_off(name: str) -> None:
    with pytest.raises(confined.TooMuchOutput):
        await run(name)


async def test_a_file_cannot_grow_without_end() -> None:
    with pytest.raises(confined.Failed, match=r"too large"):
        await run("write_big_file")


async def test_cancelling_the_caller_kills_the_child_and_removes_its_folder(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    task = asyncio.create_task(run("sleep_forever", str(mark), wall_s=60))
    await eventually(lambda: mark.exists() and mark.read_text())
    pid, folder = mark.read_text().split()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert group_is_gone(int(pid))
    assert not Path(folder).exists()


async def test_more_callers_than_places_wait_and_all_are_answered() -> None:
    answers = await asyncio.gather(*(run("echo", n) for n in range(3 * confined.RUNNING_MAX)))
    assert [a["argument"] for a in answers] == list(range(3 * confined.RUNNING_MAX))


async def test_a_queue_that_is_full_refuses_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "WAITING_MAX", 1)
    tasks = [asyncio.create_task(run("echo", n)) for n in range(confined.RUNNING_MAX + 4)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(r, confined.Busy) for r in results)
    assert any(isinstance(r, dict) for r in results)


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("echo", {"answer"}),
        ("refuse", "invalid"),
        ("break_down", "raised"),
        ("exhaust", "memory"),
        ("no_such_function", "raised"),
    ],
)
def test_what_a_function_does_becomes_one_json_answer(
    monkeypatch: pytest.MonkeyPatch, name: str, ends: Any
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"n": 1}')))
    reply = json.loads(confined._encode(confined._call(f"tests.tables.hostile:{name}", {})))
    assert set(reply) == ends if isinstance(ends, set) else reply["error"][0] == ends


@pytest.mark.parametrize("odd", [float("nan"), {1, 2}, object()])
def test_an_answer_that_is_not_json_is_said_to_be_none(odd: Any) -> None:
    [kind, message] = json.loads(confined._encode({"answer": odd}))["error"]
    assert (kind, "not JSON" in message) == ("raised", True)


def test_a_module_is_imported_without_its_packages() -> None:
    module = confined._import_alone("handlers.tools.tables")
    assert module.query
    with pytest.raises(ImportError, match="no package"):
        confined._import_alone("no.such.module")
