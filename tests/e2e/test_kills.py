"""The platform as it is shipped: each of its processes is killed once while a goal runs."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import httpx2
import pytest

from tests.factories import calculation
from tests.load.machine import PORTAL, Machine, running, status

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
KILLED = ("handlers", "edge", "nats", "postgres", "models")
TASKS = 14
DONE = ("completed", "failed", "cancelled")
PAUSE_S = 1.0


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """One running installation for this module."""
    with running() as started:
        yield started


def ask(machine: Machine, method: str, path: str, **request) -> httpx2.Response:
    """One request; tried again while something is being restarted."""
    headers = {"authorization": f"Bearer {machine.key}"} | request.pop("headers", {})
    until = time.monotonic() + 60
    while True:
        try:
            with httpx2.Client(base_url=machine.edge, timeout=30, verify=False) as client:
                answer = client.request(method, f"/api/v1{path}", headers=headers, **request)
        except httpx2.HTTPError:
            answer = None
        if answer is not None and answer.status_code < 500:
            return answer
        assert time.monotonic() < until, answer and answer.text
        time.sleep(0.3)


def chain_of_calculations() -> dict:
    """Tasks in levels of two, so that the goal runs for a while."""
    tasks = []
    for number in range(TASKS):
        after = (f"t{number - 2}",) if number >= 2 else ()
        tasks.append(calculation(f"t{number}", f"{number} * 3", after).model_dump(mode="json"))
    return {"description": "Compute one after the other", "tasks": tasks}


def wait_for_end(machine: Machine, goal: str) -> dict:
    """The goal at its end."""
    until = time.monotonic() + 180
    while True:
        body = ask(machine, "GET", f"/goals/{goal}").json()
        if body["status"] in DONE:
            return body
        assert time.monotonic() < until, body
        time.sleep(0.3)


def test_every_process_may_be_killed_once_while_goals_run(machine):
    goals = []
    for number, name in enumerate(KILLED):
        headers = {"idempotency-key": f"kill-{number}"}
        goal = ask(machine, "POST", "/goals", json=chain_of_calculations(), headers=headers)
        assert goal.status_code == 201, goal.text
        goals.append(goal.json()["id"])
        [victim] = [p for p in status(machine)["processes"] if p["name"] == name]
        os.kill(victim["pid"], signal.SIGKILL)
        time.sleep(PAUSE_S)
    for goal in goals:
        body = wait_for_end(machine, goal)
        assert body["status"] == "completed", body["error"]
        tasks = ask(machine, "GET", f"/goals/{goal}/tasks").json()["items"]
        assert {task["status"] for task in tasks} == {"succeeded"}
        assert [t["result"]["value"] for t in tasks] == [str(n * 3) for n in range(TASKS)]
        calls = ask(machine, "GET", f"/tool-invocations?goal_id={goal}&limit=200").json()["items"]
        assert len(calls) == TASKS
        assert {call["status"] for call in calls} == {"succeeded"}
    verdict = ask(machine, "POST", "/events/verify", json={}).json()
    assert verdict["ok"], verdict


def test_the_same_key_submits_a_goal_once(machine):
    headers = {"idempotency-key": "only-once"}
    body = chain_of_calculations()
    first = ask(machine, "POST", "/goals", json=body, headers=headers).json()
    second = ask(machine, "POST", "/goals", json=body, headers=headers).json()
    assert first["id"] == second["id"]
    wait_for_end(machine, first["id"])


async def run_portal(
    machine: Machine, *words: str, cwd: Path | None = None
) -> tuple[int, str, str]:
    """Status, standard output and standard error of a `portal` command."""
    environment = os.environ | {"PORTAL_DATA": machine.status["data"]}
    process = await asyncio.create_subprocess_exec(
        str(PORTAL), *words, env=environment, cwd=cwd,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 240)
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_main_job_by_the_command_line(machine, tmp_path):
    (tmp_path / "orders.csv").write_text(
        "id;area;state;sum\n1;East;failed;1,50\n2;East;ok;9,00\n3;West;failed;2,25\n"
    )
    question = "How many failed per area, and what was their total sum?"
    code, out, _ = await run_portal(
        machine, "goals", "run", question, "--attach", "orders.csv", "--json", cwd=tmp_path
    )
    *events, goal = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert goal["status"] == "completed"
    assert "1.5" in goal["result"]["answer"]
    assert "2.25" in goal["result"]["answer"]
    assert {"goals.submitted", "goals.completed"} <= {event["type"] for event in events}


async def test_people_see_how_far_a_goal_is_and_its_result(machine, tmp_path):
    tasks = json.dumps([calculation("sum", "40 + 2").model_dump(mode="json")])
    submitted = await run_portal(machine, "goals", "submit", "Add up", "--tasks", tasks, "--json")
    goal = json.loads(submitted[1])["id"]
    watched = await run_portal(machine, "goals", "watch", goal)
    (tmp_path / "few.csv").write_text("id;sum\n1;1,50\n2;9,00\n")
    question = "What is the total sum?"
    ran = await run_portal(machine, "goals", "run", question, "--attach", "few.csv", cwd=tmp_path)

    assert (watched[0], ran[0]) == (0, 0), watched[2] + ran[2]
    assert "10.5" in ran[1]


async def test_the_crash_proof_holds(machine):
    code, out, err = await run_portal(machine, "prove", "crash", "--json")
    assert code == 0, out + err


async def test_a_remote_tool_joins_is_found_and_is_used_by_an_agent(machine):
    secrets = Path(machine.status["data"]) / "secrets"
    environment = os.environ | {
        "NATS_URL": (secrets / "portal_nats_url").read_text().strip(),
        "NATS_NKEY": str(secrets / "nats" / "outside.seed"),
    }
    tool = await asyncio.create_subprocess_exec(
        str(PORTAL.parent / "python"), "examples/tool.py", env=environment
    )
    try:
        for _ in range(100):
            _, out, _ = await run_portal(machine, "tools", "get", "dates.weekday", "--json")
            if out:
                break
            await asyncio.sleep(0.3)
        step = {"name": "day", "tool": "dates.weekday", "arguments": {"date": "2026-11-23"}}
        brief = {"objective": "Which day?", "steps": [step]}
        task = {"key": "day", "title": "Find the day", "brief": brief}
        goal = ask(machine, "POST", "/goals", json={"description": "Day?", "tasks": [task]}).json()
        body = wait_for_end(machine, goal["id"])
        assert body["status"] == "completed", body["error"]
        [done] = ask(machine, "GET", f"/goals/{goal['id']}/tasks").json()["items"]
        assert "Monday" in json.dumps(done["result"])
        _, found, _ = await run_portal(machine, "registry", "search", "weekday", "--json")
        assert "weekday" in found
    finally:
        tool.terminate()
        await tool.wait()
