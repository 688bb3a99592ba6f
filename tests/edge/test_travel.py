"""Time travel from outside: a goal is watched over REST while it is carried out, then seen again."""

import asyncio
import json

import pytest

from edge.cli import main
from schemas.contract import Id
from tests.conftest import look
from tests.domains.test_travel_agents import SAID, sums

EVERY_S = 0.01
SEQ = "SELECT max(seq) AS seq FROM mcp_documents.events WHERE aggregate_id = ANY($1::uuid[])"
STEPS = [
    sums("sum", "40 + 2").model_dump(),
    {"name": "draft", "ask": "About {{ steps.sum.value }}.", "output_schema": SAID, "tokens_max": 40},
    sums("twice", "2 * 21").model_dump(),
]  # fmt: skip
GOAL = {
    "description": "Say something about a number",
    "tasks": [{
        "key": "say", "title": "Say it", "capabilities": ["write"],
        "brief": {"objective": "Say it", "steps": STEPS},
    }],
}  # fmt: skip


@pytest.fixture
def portal(url, admin_key, monkeypatch, capsys):
    """The command, asking this test's edge: its exit status and what it printed."""
    monkeypatch.setenv("PORTAL_URL", url)
    monkeypatch.setenv("PORTAL_API_KEY", admin_key.text)

    async def run(*words: str) -> tuple[int, str]:
        status = await asyncio.to_thread(main, words)
        return status, capsys.readouterr().out

    return run


class Reader:
    """Looks at a run and its steps over REST; a look is whole if nothing changed meanwhile."""

    def __init__(self, http, platform) -> None:
        self.http, self.platform = http, platform
        self.seen: dict[int, tuple[dict, list]] = {}

    async def get(self, path: str, **query):
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def watch(self, run_id: Id) -> None:
        """Until the run has ended; what was seen at which position of the log."""
        before = await self.look(run_id)
        while True:
            ids = [run_id, *(step["id"] for step in before[1])]
            [row] = await look(self.platform, SEQ, ids)
            after = await self.look(run_id)
            if after == before:
                self.seen[row["seq"]] = after
                if after[0]["finished_at"]:
                    return
            before = after
            await asyncio.sleep(EVERY_S)

    async def look(self, run_id: Id) -> tuple[dict, list]:
        run = await self.get(f"/runs/{run_id}")
        return run, (await self.get(f"/runs/{run_id}/steps"))["items"]

    async def run_of(self, goal_id: Id) -> Id:
        """The run that carries the goal's task out, as soon as there is one."""
        while not (found := (await self.get("/runs", goal_id=goal_id))["items"]):
            await asyncio.sleep(EVERY_S)
        return found[0]["id"]


async def test_each_state_of_a_goals_run_is_what_was_live_then(http, platform, portal):
    reader = Reader(http, platform)
    goal = (await http.post("/goals", json=GOAL)).json()
    run_id = await reader.run_of(goal["id"])
    await reader.watch(run_id)
    run, steps = await reader.look(run_id)
    assert run["status"] == "succeeded", run["error"]

    thinking = [s for _, s in reader.seen.values() if any(x["status"] == "started" for x in s)]
    assert thinking, "nobody looked while the model was at work"
    for seq, (then, steps_then) in reader.seen.items():
        past = await reader.get(f"/runs/{run_id}/at", seq=seq)
        assert (past["seq"], past["run"], past["steps"]) == (seq, then, steps_then)

    states = (await reader.get(f"/runs/{run_id}/states", limit=200))["items"]
    assert set(reader.seen) <= {state["seq"] for state in states}
    assert len(states) == run["version"] + sum(step["version"] for step in steps)
    versions = {
        (then["id"], then["version"]): then for r, s in reader.seen.values() for then in (r, *s)
    }
    for state in states:  # at every step, also those between two looks
        past = await reader.get(f"/runs/{run_id}/at", seq=state["seq"])
        for thing in (past["run"], *past["steps"]):
            assert versions.setdefault((thing["id"], thing["version"]), thing) == thing
    at = await reader.get(f"/runs/{run_id}/at", at=run["finished_at"].replace("Z", "+00:00"))
    assert [step["name"] for step in at["steps"]] == ["sum", "draft", "twice"]

    await fork_compare_and_rerun(portal, reader, run)


async def fork_compare_and_rerun(portal, reader, run) -> None:
    """The same run, from the command line."""
    status, text = await portal("runs", "states", run["id"])
    assert (status, "step_started" in text, "draft" in text) == (0, True, True)
    status, text = await portal("runs", "at", run["id"], "--seq", str(min(reader.seen)))
    assert (status, run["id"] in text) == (0, True)
    changes = ("--set", "steps.twice.arguments.expression=1 + 1")
    status, text = await portal("--json", "runs", "fork", run["id"], "--from", "twice", *changes)
    forked = json.loads(text)
    assert (status, forked["forked_from"], forked["goal_id"]) == (0, run["id"], None)
    await reader.watch(forked["id"])
    status, text = await portal("runs", "diff", run["id"], forked["id"])
    assert (status, "= draft" in text, "≠ twice" in text) == (1, True, True)
    assert "/asked/arguments/expression" in text
    assert "- 2 * 21" in text
    assert "+ 1 + 1" in text

    status, text = await portal("runs", "rerun", run["id"], "--offline", "--code")
    assert (status, "nobody was asked" in text) == (0, True)
    status, text = await portal("runs", "rerun", run["id"], "--offline", "--with", "prompt=No.")
    assert (status, "✘ draft ERR_155" in text) == (1, True)
    status, _ = await portal("runs", "rerun", run["id"], "--with", "no-value")
    assert status == 1


async def test_a_run_of_a_workflow_is_found_by_the_same_command(http, portal):
    document = {"steps": [{"key": "a", "type": "set", "value": "$.inputs.n"}]}
    made = (await http.post("/workflows", json={"name": "w", "document": document})).json()
    run = (await http.post(f"/workflows/{made['id']}/runs", json={"inputs": {"n": 1}})).json()
    while not (await http.get(f"/workflow-runs/{run['id']}")).json()["finished_at"]:
        await asyncio.sleep(EVERY_S)
    status, text = await portal(
        "--json", "runs", "fork", run["id"], "--from", "a", "--set", "inputs.n=2"
    )
    assert (status, json.loads(text)["inputs"]) == (0, {"n": 2})
    assert (await portal("runs", "rerun", run["id"], "--offline"))[0] == 0
    assert (await portal("runs", "states", "00000000-0000-7000-8000-000000000000"))[0] == 1
