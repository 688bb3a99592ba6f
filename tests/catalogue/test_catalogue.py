"""The catalogue is whole and one: folders, handlers, consumers, problems and subjects agree."""

import ast
import pkgutil
import re
from collections import Counter
from pathlib import Path

import pytest

import handlers
import schemas
from bus import faults, subjects, topology
from handlers.__main__ import load_service
from schemas import catalogue, problems
from schemas.contract import SUBJECT_PART, Problem
from tests.tidy import project

ROOT = Path(__file__).parents[2]
VOCABULARY = {
    "render", "contract", "json_schemas", "problems", "principal", "policy", "catalogue", "travel",
    "wiring",
}  # fmt: skip
OPERATIONS = catalogue.operations()


def services():
    return [load_service(domain) for domain in handlers.DOMAINS]


def code_of(*folders):
    return [ast.parse(project.read(f)) for f in project.named(".py") if f.parts[0] in folders]


def test_both_lists_of_domains_name_the_folders_there_are():
    modules = {found.name for found in pkgutil.iter_modules(schemas.__path__)} - VOCABULARY
    folders = {f.parent.name for f in (ROOT / "handlers").glob("*/__init__.py")}

    assert set(catalogue.DOMAINS) == modules == folders
    assert handlers.DOMAINS == catalogue.DOMAINS


def test_every_operation_has_exactly_one_handler():
    handled = Counter(operation for service in services() for operation in service.handlers)

    assert set(handled) == set(OPERATIONS)
    assert set(handled.values()) == {1}


def test_every_reaction_and_every_job_is_done_by_somebody():
    done = services()

    assert {r for s in done for r in s.reactions} == set(catalogue.reactions())
    assert {j for s in done for j in s.jobs} == set(catalogue.jobs())


@pytest.mark.parametrize("domain", handlers.DOMAINS)
def test_a_domain_does_only_its_own_reactions_and_jobs(domain):
    service = load_service(domain)

    assert service.name == domain
    assert re.fullmatch(r"L(0[1-9]|1[0-2])", service.layer)
    assert {r.durable.split("-")[0] for r in service.reactions} <= {domain}
    assert {j.name.split(".")[0] for j in service.jobs} <= {domain}


def test_every_token_of_every_subject_is_legal():
    named = [
        *(o.subject for o in OPERATIONS),
        *(e.subject_root() for e in catalogue.events()),
        *(j.subject() for j in catalogue.jobs()),
    ]
    durables = [c.durable for c in wanted_consumers()]

    assert [s for s in named if subjects.plain(s) != s] == []
    assert [d for d in durables if not re.fullmatch(SUBJECT_PART, d)] == []
    assert len(named) == len(set(named))


def test_names_are_used_once():
    routes = Counter((o.route.method, o.route.path) for o in OPERATIONS if o.route)
    names = Counter(o.name for o in OPERATIONS)

    assert [n for n, times in (routes + names).items() if times > 1] == []


def test_path_parameters_are_fields_of_the_request():
    for operation in OPERATIONS:
        if operation.route:
            assert set(operation.route.parameters) <= set(operation.request.model_fields), operation


def test_everything_that_is_declared_says_what_it_is():
    things = [o.request for o in OPERATIONS] + [
        *catalogue.events(), *catalogue.jobs(), *catalogue.problems(),
    ]  # fmt: skip

    assert [t.__name__ for t in things if not (t.__dict__.get("__doc__") or "").strip()] == []


def covers(pattern, subject):
    """NATS matching: `*` is one token, `>` the rest."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


def test_no_stream_covers_a_request_a_reply_or_a_tool():
    patterns = [subject for stream in topology.STREAMS for subject in stream.subjects]
    core = [o.subject for o in OPERATIONS] + ["_INBOX.a.b", "tool.dates.weekday", "$SRV.PING"]

    assert [(p, s) for p in patterns for s in core if covers(p, s)] == []


def test_each_subject_is_kept_by_exactly_the_stream_of_its_kind():
    kept = {
        "EVENTS": [f"{e.subject_root()}.x" for e in catalogue.events()],
        "JOBS": [j.subject() for j in catalogue.jobs()],
        "LIVE": [subjects.live("models", "x")],
        "DEAD": [subjects.dead("JOBS", "x")],
        "REPLAY": [subjects.replay("x", e.name) for e in catalogue.events()],
    }
    for name, belonging in kept.items():
        for subject in belonging:
            found = [s.name for s in topology.STREAMS for p in s.subjects if covers(p, subject)]
            assert found == [name], subject


def wanted_consumers():
    return topology.consumers(catalogue.reactions(), catalogue.jobs(), OPERATIONS)


def test_each_consumer_is_named_once_and_follows_something_that_is_announced():
    announced = [f"{e.subject_root()}.x" for e in catalogue.events()]
    consumers = wanted_consumers()

    assert len({(c.stream, c.durable) for c in consumers}) == len(consumers)
    for consumer in consumers:
        if consumer.stream == "EVENTS":
            assert any(covers(consumer.subject, subject) for subject in announced), consumer


def test_a_reaction_knows_every_event_that_its_subject_brings():
    for reaction in catalogue.reactions():
        for event in catalogue.events():
            if covers(reaction.subject, f"{event.subject_root()}.x"):
                assert reaction.event_named(event.name) is event


def test_every_problem_has_a_code_of_its_own_and_a_fitting_status():
    declared = catalogue.problems()

    assert len({p.code for p in declared}) == len(declared)
    assert [p.code for p in declared if not re.fullmatch(r"ERR_\d{3}", p.code)] == []
    assert [p.code for p in declared if not 400 <= p.status <= 599] == []


def raised(trees):
    """Names of the classes that code raises or makes."""
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            made = node.exc if isinstance(node, ast.Raise) else node
            made = made.func if isinstance(made, ast.Call) else made
            if isinstance(node, ast.Raise | ast.Call):
                found.add(getattr(made, "attr", getattr(made, "id", None)))
    return found


def test_every_problem_is_raised_by_somebody():
    names = raised(code_of("bus", "handlers", "edge"))
    silent = [
        p.__name__ for p in catalogue.problems() if p.__name__ not in names and not p.constraint
    ]
    assert silent == []


@pytest.mark.parametrize("domain", handlers.DOMAINS)
def test_a_domain_declares_the_problems_that_it_raises(domain):
    mine = [f for f in project.named(".py") if f.parts[:2] == ("handlers", domain)]
    known = {p.__name__: p for p in catalogue.problems()}
    own = {known[n] for n in raised(ast.parse(project.read(f)) for f in mine) if n in known}
    declared = {p for o in OPERATIONS if o.domain == domain for p in o.problems}
    anyway = {*problems.ANY_OPERATION, *problems.IDEMPOTENCY, *problems.EDGE_ONLY}
    in_jobs = {p for j in catalogue.jobs() if j.name.startswith(f"{domain}.") for p in own}

    assert own - declared - anyway - in_jobs == set()


def test_every_event_is_recorded_by_the_domain_that_declares_it():
    for event in catalogue.events():
        domain = event.name.split(".")[0]
        assert f"{event.__module__}.".startswith(f"schemas.{domain}.")
        mine = [f for f in project.named(".py") if f.parts[:2] == ("handlers", domain)]
        assert any(re.search(rf"\b{event.__name__}\b", project.read(f)) for f in mine), event


def test_fault_points_that_are_listed_are_used_and_no_others():
    used = {
        node.args[0].value
        for tree in code_of("bus", "handlers", "edge")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "faults.point"
        and isinstance(node.args[0], ast.Constant)
    }

    assert used == {*faults.POINTS, *faults.POINTS_OF_EDGE}


def test_an_operation_that_announces_something_can_be_repeated_under_a_key():
    announcing = [o for o in OPERATIONS if o.emits and o.kind == "call"]

    assert [o.name for o in announcing if not o.idempotent and not o.reads] == []


def test_a_problem_that_a_constraint_stands_for_is_known_by_it():
    named = {p.constraint for p in catalogue.problems() if p.constraint}

    assert named == set(Problem.by_constraint)
    sql = "".join(project.read(f) for f in project.named(".py") if f.parts[0] == "migrations")
    assert [name for name in named if name not in sql] == []
