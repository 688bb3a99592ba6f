"""Plans as workflows, and what the steps of their runs make of tasks, over random plans and worlds."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.goals import compiling, estimating, progress, rules
from handlers.workflows import checking, limits
from handlers.workflows.engine import Begin, Record, State, decide
from handlers.workflows.mapping import computed
from handlers.workflows.operations.definitions import written
from handlers.workflows.records import next_of, record_of
from handlers.workflows.steps import Came
from schemas.agents import Brief, Run, ToolStep
from schemas.goals import Constraints, PersonAsked, SubmitGoal, TaskDraft
from schemas.principal import Principal
from schemas.problems import IllegalMove
from schemas.workflows.document import AgentStep, Document, HumanStep
from schemas.workflows.runs import AgentFailed, AgentWork, EndedBadly, WorkflowRun

AT = datetime(2026, 11, 23, tzinfo=UTC)
GOAL_ID, PLAN_ID, RUN_ID = (f"00000000-0000-7000-8000-00000000000{n}" for n in range(3))
OBJECTIVES = st.sampled_from(["Read it", "$.inputs.x", "$5 a day", "{{ inputs.a }}", "$"])


@st.composite
def drafts(draw: st.DrawFn) -> tuple[TaskDraft, ...]:
    """The tasks of a plan: each depends on some of those before it."""
    keys = draw(
        st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True), min_size=1, max_size=9,
                 unique=True)
    )  # fmt: skip
    found = []
    for number, key in enumerate(keys):
        before = draw(st.sets(st.sampled_from(keys[:number]), max_size=3)) if number else ()
        step = ToolStep(name="x", tool="a.b", arguments={"of": {"$ref": "inputs.a"}})
        human = draw(st.booleans())
        found.append(
            TaskDraft(
                key=key, title=key, kind="human" if human else "agent",
                brief=Brief(
                    objective=draw(OBJECTIVES), inputs={"given": {"$ref": "x"}, "cost": "$5"},
                    steps=() if human else (step,),
                ),
                depends_on=tuple(sorted(before)), capabilities=("write",),
                max_attempts=draw(st.integers(1, 10)),
                person=draw(st.sampled_from([None, PersonAsked(for_role="operator")])),
            )
        )  # fmt: skip
    return tuple(draw(st.permutations(found)))


def planned(given_drafts):
    """A goal with a plan of these tasks, about to be carried out."""
    command = SubmitGoal(description="x", constraints=Constraints(parallelism=3, tokens=5_000))
    owner = Principal(id="ada", kind="user", roles=("developer",))
    goal = rules.new_goal(command, owner, id=GOAL_ID, at=AT)
    plan = rules.new_plan(goal, given_drafts, "given", id=PLAN_ID, run_id=RUN_ID, at=AT)
    goal = rules.moved(rules.moved(goal, "planned", AT), "executing", AT)
    return goal, [rules.new_task(draft, goal, plan, at=AT) for draft in given_drafts]


@given(drafts())
def test_a_plan_compiles_to_a_document_that_says_all_that_its_tasks_say(given_drafts):
    goal, tasks = planned(given_drafts)
    document = compiling.document(goal, tasks)
    assert checking.findings(document) == []
    assert (document.at_once, document.tokens_max) == (3, 5_000)
    assert Document.model_validate(written(document)) == document
    for task, step in zip(tasks, document.steps, strict=True):
        assert (step.key, step.after, step.on_error) == (task.key, task.depends_on, "skip")
        known = {"steps": {key: {"output": f"of {key}"} for key in task.depends_on}}
        results = {key: f"of {key}" for key in task.depends_on}
        if isinstance(step, AgentStep):
            assert (task.kind, step.brief, step.retry.attempts) == (
                "agent", task.brief, task.max_attempts,
            )  # fmt: skip
            assert computed(step.inputs, known) == results
        else:
            assert isinstance(step, HumanStep)
            asked = computed(step.question, known)
            assert asked["objective"] == task.brief.objective
            assert asked["inputs"]["cost"] == "$5"
            assert {key: asked["inputs"][key] for key in results} == results


def run_of_plan() -> WorkflowRun:
    return WorkflowRun(
        id=RUN_ID, version=1, workflow_id=GOAL_ID, workflow_name="x", workflow_version=1,
        owner_id="ada", status="running", inputs={}, result=None, error=None, parent_id=None,
        parent_path=None, started_at=AT, finished_at=None, deadline=None, goal_id=GOAL_ID,
    )  # fmt: skip


class World:
    """A plan's run, carried out by the engine; some steps fail, some are tried again."""

    def __init__(self, tasks, document, seed) -> None:
        self.draw, self.document, self.run = random.Random(seed), document, run_of_plan()
        self.steps, self.told, self.fails = {}, [], set()
        self.fails = {t.key for t in tasks if self.draw.random() < 0.25}

    def carry_out(self):
        for tick in range(1_000):
            at = AT + timedelta(seconds=100 * tick)
            records = {path: record_of(step) for path, step in self.steps.items()}
            decision = decide(self.document, State("running", {}, records, at))
            if decision.outcome is not None:
                return decision
            begin = self.draw.choice([*decision.begin, *decision.look])
            self._tell(begin, self._comes(begin), at)
        raise AssertionError("no end")

    def _comes(self, begin: Begin) -> Came:
        before = self.steps.get(begin.path)
        if before is None and self.draw.random() < 0.7:  # else it was quicker than its record
            kind = "task" if begin.step.type == "human" else "run"
            work = AgentWork(run_id=self._run_id(), agent_id=PLAN_ID)
            return Came("waiting", awaits=f"{kind}/{work.run_id}", due_at=AT, work=work)
        work = AgentWork(runs=begin.attempt, run_id=self._run_id(), prompt_tokens=begin.attempt)
        if begin.path in self.fails:
            cause = {"code": "ERR_510", "message": "no"}
            return Came("failed", error=EndedBadly(cause=cause, status="failed").kept(), work=work)
        if begin.attempt == 1 and self.draw.random() < 0.3:
            error = AgentFailed(cause={"code": "ERR_520"}, status="failed").kept()
            return Came("retrying", error=error, due_at=AT, work=work)
        return Came("done", begin.path, work=work)

    def _run_id(self) -> str:
        return f"00000000-0000-7000-8000-{len(self.told) + 100:012}"

    def _tell(self, begin, came, at) -> None:
        step = next_of(self.steps.get(begin.path), self.run, begin, came, began=at, at=at)
        self.steps[begin.path] = step
        self.told.append(step)


def follow(tasks, told, draw):
    """The tasks after all that was told, in an order in which the bus may tell it."""
    waiting = [step for step in told if step.status == "waiting"]
    ended = [step for step in told if step.status != "waiting"]
    while waiting or ended:  # two consumers; each keeps the order of one step
        queue = draw.choice([q for q in (waiting, ended) if q])
        step = queue.pop(draw.choice([0, next_of_another(queue)]))
        [task] = [t for t in tasks if t.id == step.id]
        after = progress.after_waiting if step.status == "waiting" else progress.after_step
        tasks = progress.replaced(tasks, after(task, step, AT)[-1:])
        moved = [*progress.newly_ready(tasks, AT), *progress.now_skipped(tasks, AT)]
        tasks = progress.replaced(tasks, moved)
    return tasks


def next_of_another(queue) -> int:
    """The place of the first step that is not the first one's."""
    return next((n for n, step in enumerate(queue) if step.id != queue[0].id), 0)


@given(drafts(), st.integers(0, 1_000_000))
def test_tasks_end_as_their_steps_whatever_the_order_in_which_it_is_told(given_drafts, seed):
    goal, tasks = planned(given_drafts)
    world = World(tasks, compiling.document(goal, tasks), seed)
    decision = world.carry_out()
    begun = {t.key for t in tasks if t.key in world.steps}
    failed = begun & world.fails
    lost = set(failed)
    for task in progress.tasks_in_order(tasks):
        if lost & set(task.depends_on):
            lost.add(task.key)
    assert begun == {t.key for t in tasks} - (lost - failed), "what cannot be is left out"
    assert decision.status == ("failed" if failed else "succeeded")

    after = follow(tasks, world.told, random.Random(seed))
    states = {task.key: task.status for task in after}
    assert states == {
        key: "failed" if key in failed else "skipped" if key in lost else "succeeded"
        for key in states
    }
    assert progress.verdict(after) == ("failed" if failed else "succeeded")
    for task in after:
        if task.status == "succeeded":
            assert task.result == task.key
            assert task.prompt_tokens == world.steps[task.key].work.prompt_tokens
        elif task.status == "failed":
            assert task.error == {"code": "ERR_510", "message": "no"}


@given(drafts(), st.data())
def test_a_plan_made_anew_keeps_what_is_done_and_did_not_use_what_is_done_again(given_drafts, data):
    _, tasks = planned(given_drafts)
    keys = [task.key for task in tasks]
    lost = data.draw(st.sets(st.sampled_from(keys)))
    changed = data.draw(st.sets(st.sampled_from(keys)))
    for task in progress.tasks_in_order(tasks):
        if lost & set(task.depends_on):
            lost.add(task.key)
    done = [task for task in tasks if task.key not in lost]
    anew = [
        draft.model_copy(update={"title": "Otherwise"}) if draft.key in changed else draft
        for draft in given_drafts
        if draft.key in lost | changed
    ]
    combined, kept = rules.with_kept(done, anew)
    assert sorted(draft.key for draft in combined) == sorted(keys)
    rules.levels(combined)
    dirty = lost | changed
    for task in progress.tasks_in_order(tasks):
        if dirty & set(task.depends_on):
            dirty.add(task.key)
    assert kept.keys() == set(keys) - dirty

    goal, _ = planned(given_drafts)
    plan = rules.new_plan(goal, combined, "given", id=GOAL_ID, run_id=PLAN_ID, at=AT)
    new = [
        rules.kept_task(d, goal, plan, kept[d.key].model_copy(update={"result": d.key}), at=AT)
        if d.key in kept else rules.new_task(d, goal, plan, at=AT)
        for d in combined
    ]  # fmt: skip
    if dirty:
        document = compiling.document(goal, new, spent=1_000)
        assert {step.key for step in document.steps} == dirty
        assert (checking.findings(document), document.tokens_max) == ([], 4_000)
        given_inputs = compiling.results(new)
        assert given_inputs == {key: key for key in given_inputs}
        for step in document.steps:
            asked = step.inputs if isinstance(step, AgentStep) else step.question["inputs"]
            for key in [key for key in asked if key in kept]:
                assert computed(asked[key], {"inputs": given_inputs}) == key


@given(drafts(), drafts())
def test_an_approval_is_bound_to_everything_that_a_plan_says(first, second):
    constraints = Constraints()
    sha256 = rules.plan_sha256(first, constraints)
    _, tasks = planned(first)
    assert rules.plan_sha256(tasks, constraints) == sha256
    assert (rules.plan_sha256(second, constraints) == sha256) == (first == second)
    assert rules.plan_sha256(first, Constraints(tokens=123)) != sha256


def recorded(count, tokens, seconds):
    row = {"capabilities": ["write"], "only_tools": True, "tokens": tokens, "seconds": seconds}
    return [row] * count


@given(drafts(), st.integers(1, 9))
def test_a_plan_takes_as_long_as_its_longest_way_and_no_longer_than_one_after_the_other(
    given_drafts, at_once
):
    seconds = {draft.key: 1.0 + len(draft.key) for draft in given_drafts}
    longest = dict.fromkeys(seconds, 0.0)
    for task in progress.tasks_in_order(given_drafts):
        before = max((longest[key] for key in task.depends_on), default=0.0)
        longest[task.key] = before + seconds[task.key]
    took = estimating.duration(given_drafts, seconds, at_once)
    assert max(longest.values()) <= took <= sum(seconds.values())
    assert took >= sum(seconds.values()) / at_once
    if at_once >= len(given_drafts):
        assert took == max(longest.values())


@given(drafts(), st.integers(0, 20))
def test_an_estimate_is_never_lower_than_its_lowest(given_drafts, count):
    past = recorded(count, 50, 2.5)
    found = estimating.estimate(given_drafts, past, Constraints(), price=10)
    for spread in (found.tokens, found.seconds, found.cost):
        assert 0 <= spread.low <= spread.likely <= spread.high
    agents_tasks = [draft for draft in given_drafts if draft.kind == "agent"]
    known = count >= estimating.KNOWN_MIN
    assert found.recorded == (len(agents_tasks) if known else 0)
    if known:
        assert found.tokens.likely == 50 * len(agents_tasks)
    assert found.cost.likely == pytest.approx(found.tokens.likely / 100)


def agent_run(number: int, **fields) -> Run:
    given_fields = {
        "id": f"00000000-0000-7000-8000-{number:012}", "version": 1, "agent_id": PLAN_ID,
        "task_id": None, "goal_id": GOAL_ID, "brief": Brief(objective="x"), "status": "running",
        "result": None, "error": None, "steps": 0, "prompt_tokens": 0, "completion_tokens": 0,
        "owner_id": "ada", "created_at": AT, "started_at": AT, "finished_at": None,
    }  # fmt: skip
    return Run(**given_fields | fields)


def test_a_run_of_an_agent_that_is_over_cannot_begin_again_with_the_task():
    _, [task] = planned((TaskDraft(key="a", title="a", brief=Brief(objective="x")),))
    first, second = agent_run(1), agent_run(2)
    *_, begun = progress.after_start(task, first, AT)
    assert (begun.status, begun.run_id) == ("running", first.id)
    again = progress.tried_again(begun, AT)
    assert progress.after_start(again, first, AT) == []
    [begun] = progress.after_start(again, second, AT)
    assert (begun.status, begun.run_id, begun.attempt) == ("running", second.id, 2)


@pytest.mark.parametrize("status", ["cancelled", "timed_out"])
def test_a_task_is_lost_as_the_run_of_its_agent_was(status):
    goal, [task] = planned((TaskDraft(key="a", title="a", brief=Brief(objective="x")),))
    [step] = compiling.document(goal, [task]).steps
    came = Came("failed", error=EndedBadly(status=status, cause={"code": "X"}).kept())
    told = next_of(None, run_of_plan(), Begin("a", step, 1, {}), came, began=AT, at=AT)
    *_, lost = progress.after_step(task, told, AT)
    assert (lost.status, lost.error) == (status, {"code": "X"})


def test_agents_at_work_take_the_room_of_a_run_and_its_tokens():
    goal, tasks = planned(
        tuple(TaskDraft(key=k, title=k, brief=Brief(objective="x")) for k in "abcd")
    )
    document, run = compiling.document(goal, tasks), run_of_plan()
    steps = {}
    for step, awaits in zip(document.steps, ("run/1", "agent", "task/1"), strict=False):
        work = AgentWork(prompt_tokens=2_000, completion_tokens=10)
        came = Came("waiting", awaits=awaits, work=work)
        begin = Begin(step.key, step, 1, {})
        steps[step.key] = next_of(None, run, begin, came, began=AT, at=AT)
    assert limits.room(document, steps, doing=("a", "d")) == 1
    assert limits.tokens_left(document, {"a": steps["a"]}) == 2_990
    assert limits.tokens_left(document, steps) == 0


@pytest.mark.parametrize("moves", [rules.GOAL_MOVES, rules.PLAN_MOVES, rules.TASK_MOVES],
                         ids=["goal", "plan", "task"])  # fmt: skip
def test_every_move_leads_to_a_state_that_there_is(moves):
    assert {to for allowed in moves.values() for to in allowed} <= set(moves)


def test_a_task_that_is_done_stays_done():
    _, [task] = planned((TaskDraft(key="a", title="a", brief=Brief(objective="x")),))
    done = task.model_copy(update={"status": "succeeded"})
    with pytest.raises(IllegalMove):
        rules.moved_task(done, "ready")


def test_what_comes_after_a_failure_is_left_out_and_the_rest_is_done():
    call = {"type": "call", "operation": "agents.get", "on_error": "skip", "after": []}
    document = Document.model_validate({"steps": [
        {"key": "bad", **call}, {"key": "good", **call},
        {"key": "behind", **call, "after": ["bad"]}, {"key": "last", **call, "after": ["behind"]},
    ]})  # fmt: skip
    failed = {"bad": Record("failed", error={"code": "X"})}
    decision = decide(document, State("running", {}, failed, AT))
    assert [begin.path for begin in decision.begin] == ["good"]
    over = decide(document, State("running", {}, failed | {"good": Record("done")}, AT))
    assert (over.status, over.outcome.error, over.begin) == ("failed", {"code": "X"}, [])
