"""What a run may use only ever becomes less, and fits into a signed principal."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from bus.credentials import HEADER_BYTES_MAX, Signer, ensure_signing_keys
from handlers.agents import rules
from schemas.agents import AgentConfig, AgentLimits, AssignWork, Brief, CreateAgent, ToolStep
from schemas.principal import Mandate, Principal, RunRights, permissions

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "0192f0c0-0000-7000-8000-000000000001"
names = st.sampled_from([f"{group}.{verb}" for group in "abc" for verb in "xyz"])
tools = st.lists(names, max_size=6).map(tuple)
number = st.integers(-5, 2**40)
rights = st.builds(RunRights, run_id=st.just("r"), tools=tools, tokens=number, until=number)
bounds = st.fixed_dictionaries(
    {}, optional={"tools": tools, "tokens": number, "until": number}
)  # fmt: skip


@given(rights, st.lists(bounds, max_size=4))
def test_a_child_never_has_more_than_its_parent(parent, path):
    child = parent
    for bound in path:
        child = child.narrowed_to(**bound)
        assert child.within(parent)
        for name, limit in bound.items():
            if name == "tools":
                assert set(child.tools) <= set(limit)
            else:
                assert getattr(child, name) <= limit


@given(rights, rights)
def test_what_both_allow_is_within_both_and_nothing_less(one, other):
    both = one.narrowed_to(tools=other.tools, tokens=other.tokens, until=other.until)
    assert both.within(one)
    assert both.within(other)
    assert set(both.tools) == set(one.tools) & set(other.tools)
    assert both.tokens in (one.tokens, other.tokens)


@given(rights, names)
def test_more_of_anything_is_not_within(parent, name):
    longer = (*parent.tools, f"{name}-new")
    assert not parent.model_copy(update={"tools": longer}).within(parent)
    assert not parent.model_copy(update={"tokens": parent.tokens + 1}).within(parent)
    assert not parent.model_copy(update={"until": parent.until + 1}).within(parent)
    assert not parent.model_copy(update={"run_id": "other"}).within(parent)


def agent(**config):
    command = CreateAgent(name="a", config=AgentConfig(**config), limits=AgentLimits(tokens=900))
    return rules.new_agent(command, id=ID, owner="ada", at=AT)


def run(asker=None, **fields):
    brief = Brief(objective="x", steps=(ToolStep(name="s", tool="calculator.evaluate"),))
    command = AssignWork(**{"brief": brief} | fields)
    asker = asker or Principal(id="ada", kind="user", roles=("developer",))
    return rules.started(rules.new_run(agent(), command, asker, id=ID, at=AT), agent(), AT)


def test_a_run_has_its_agents_tools_and_without_any_those_of_its_brief():
    assert rules.rights_of(run(), agent(tools=("a.b",)), ()).tools == ("a.b",)
    assert rules.rights_of(run(), agent(), ()).tools == ("calculator.evaluate",)
    assert rules.rights_of(run(brief=Brief(objective="x")), agent(), ()).tools == ()


def test_a_run_has_the_smaller_of_two_budgets_and_ends_with_its_time():
    assert rules.rights_of(run(), agent(), ()).tokens == 900
    assert rules.rights_of(run(tokens_max=7), agent(), ()).tokens == 7
    assert rules.rights_of(run(tokens_max=7_000), agent(), ()).tokens == 900
    assert rules.rights_of(run(), agent(), ()).until == AT.timestamp() + 600


def test_a_run_belongs_to_who_asked_and_remembers_with_which_rights():
    asker = Principal(
        id="ada", kind="key", roles=("developer",), scopes=("agents:read",), credential=f"key/{ID}"
    )
    made = run(asker)
    assert made.owner_id == "ada"
    assert made.mandate == Mandate.of(asker)


def test_the_longest_rights_still_fit_into_a_header(tmp_path):
    ensure_signing_keys(tmp_path)
    chosen = tuple(f"{'t' * 31}.{'u' * 20}-{n:02}" for n in range(50))
    long = rules.rights_of(run(), agent(tools=chosen), ())
    assert set(long.tools) < set(chosen)
    principal = Principal(
        id="i" * 36, kind="agent", roles=("admin", "developer", "operator", "viewer"),
        scopes=permissions(), via="bus", credential=f"session/{ID}", run=long,
    )  # fmt: skip
    assert len(Signer("handlers", tmp_path).sign(principal)) <= HEADER_BYTES_MAX
