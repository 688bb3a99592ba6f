"""Every operation with a route is a command, and words become the request that was meant."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from edge.cli import fields, own, program
from edge.cli.completion import subparsers
from edge.cli.door import request_of
from schemas import agents, catalogue, documents, goals, registry
from schemas.contract import Operation

ROUTED = [operation for operation in catalogue.operations() if operation.route]


def parsed(*words: str) -> argparse.Namespace:
    return program.build(*program.first_words(words)).parse_args(words)


def body(*words: str) -> dict[str, Any]:
    arguments = parsed(*words)
    return fields.body_of(arguments.OPERATION, vars(arguments))


@pytest.mark.parametrize("operation", ROUTED, ids=lambda operation: operation.name)
def test_every_routed_operation_is_a_command_whose_help_renders(
    operation: Operation[Any, Any],
) -> None:
    group = subparsers(program.build(operation.domain, operation.verb))[operation.domain]
    assert operation.verb in subparsers(group)
    assert subparsers(group)[operation.verb].format_help()


def test_the_domains_are_read_from_the_catalogue_without_importing_it() -> None:
    assert program.domains() == catalogue.DOMAINS


def test_a_domains_module_declares_only_its_own_operations() -> None:
    derived = {o.name for domain in program.domains() for o in program.derived(domain)}
    assert derived == {operation.name for operation in ROUTED}


def test_no_command_stands_twice_and_no_own_command_hides_a_domain() -> None:
    paths = [command.path for command in own.COMMANDS]
    assert len(set(paths)) == len(paths)
    assert not {path[0] for path in paths if len(path) == 1} & set(catalogue.DOMAINS)


@pytest.mark.parametrize("operation", ROUTED, ids=lambda operation: operation.name)
def test_no_field_has_the_name_of_an_option_of_every_command(
    operation: Operation[Any, Any],
) -> None:
    taken = {"json", "does", "does_async", "OPERATION", "KEY", "ALL", "AT_MOST", "FILE", "help"}
    assert not taken & {slot.key for slot in fields.slots_of(operation.request)}


def test_own_functions_exist() -> None:
    for command in own.COMMANDS:
        assert callable(program.function(command.does))


def test_a_value_of_any_kind_is_written_as_json() -> None:
    words = ("workflows", "answer", "ID", "--path", "may", "--answer")
    assert body(*words, '{"yes": true}')["answer"] == {"yes": True}
    assert body(*words, '"yes"')["answer"] == "yes"


def test_dotted_options_and_json_make_one_nested_object() -> None:
    given = body(
        "agents", "create", "--name", "bob", "--config", '{"model": "a", "temperature": 1}',
        "--config.model", "b", "--config.tools", "x.y", "--config.tools", "x.z",
        "--capabilities", "read", "--capabilities", "write", "--limits.parallel", "3",
    )  # fmt: skip
    assert given == {
        "name": "bob",
        "config": {"model": "b", "temperature": 1, "tools": ["x.y", "x.z"]},
        "capabilities": ["read", "write"],
        "limits": {"parallel": 3},
    }
    agents.CreateAgent.model_validate_json(json.dumps(given))


def test_only_what_was_given_is_sent() -> None:
    assert body("agents", "list") == {}
    assert body("agents", "list", "--limit", "3") == {"limit": 3}


def test_words_need_no_quotes() -> None:
    assert body("registry", "search", "find", "a", "word") == {"q": "find a word"}
    assert body("goals", "submit", "do", "this") == {"description": "do this"}
    assert body("documents", "compare", "a", "b") == {"document_ids": ["a", "b"]}


def test_path_parameters_are_positional_and_encoded() -> None:
    assert body("agents", "get", "a/b?c") == {"id": "a/b?c"}
    assert request_of(agents.get, {"id": "a/b?c"}).path == "/api/v1/agents/a%2Fb%3Fc"


def test_a_flag_can_be_said_both_ways() -> None:
    assert body("events", "query", "--newest-first") == {"newest_first": True}
    assert body("events", "query", "--no-newest-first") == {"newest_first": False}


def test_lists_of_objects_are_json_one_or_many_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    file.write_text('[{"key": "b"}, {"key": "c"}]')
    given = body("goals", "submit", "x", "--tasks", '{"key": "a"}', "--tasks", f"@{file}")
    assert given["tasks"] == [{"key": "a"}, {"key": "b"}, {"key": "c"}]


@pytest.mark.parametrize(
    "words",
    [
        ("agents", "get"),
        ("agents", "list", "--limit", "many"),
        ("agents", "list", "--status", "bogus"),
        ("agents", "create", "--name", "x", "--config", "{"),
        ("agents", "create"),
        ("nonsense",),
        ("agents", "nonsense"),
        ("agents",),
    ],
)
def test_wrong_usage_ends_with_status_2(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as left:
        program.run(words)
    assert left.value.code == 2


def test_reads_go_to_the_query_and_writes_to_the_body() -> None:
    read = request_of(registry.search, {"q": "a b", "limit": 3})
    assert (read.method, read.query, read.body) == ("GET", (("q", "a b"), ("limit", "3")), None)
    write = request_of(goals.cancel, {"id": "1", "reason": "x"})
    assert (write.path, write.query, write.body) == ("/api/v1/goals/1/cancel", (), {"reason": "x"})


def test_an_upload_takes_a_file_and_neither_its_bytes_nor_where_they_are() -> None:
    names = {slot.key for slot in fields.sendable(documents.attach)}
    assert names == {"name", "media_type", "tags"}
    assert parsed("documents", "attach", "a.md").FILE == "a.md"


def test_json_may_stand_before_or_behind_the_command() -> None:
    assert parsed("--json", "agents", "list").json
    assert parsed("agents", "list", "--json").json
    assert not parsed("agents", "list").json
