"""Decisions about tools and their calls, and the pure parts of built-in tools."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import json_schemas
from handlers.tools import rules
from handlers.tools.builtin import BUILTINS
from handlers.tools.builtin.calculator import calculate
from handlers.tools.builtin.report import Report, compose, documents_in
from handlers.tools.builtin.text import Find, counts_of, pattern_of
from schemas.json_schemas import depth_of
from schemas.principal import Principal
from schemas.problems import BadSchema, OutsideSchema, Unavailable
from schemas.registry import Service, ServiceEndpoint
from schemas.tools import InvokeTool, Tool, ToolFailed, ToolInvocation, ToolTimedOut

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATE = AT + timedelta(minutes=10)
CALLER = Principal(id="anna", kind="user", roles=("developer",))
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
DOCUMENT = "0192f0c0-0000-7000-8000-000000000001"


def service(version: str = "1.0.0", **metadata: Any) -> Service:
    about = {"tool": "weather.now", "input_schema": json.dumps(SCHEMA)} | metadata
    endpoint = ServiceEndpoint(
        name="now", subject="tool.weather.now", metadata={k: v for k, v in about.items() if v}
    )
    return Service(
        id=rules.tool_id("a", "1"), version=1, name="weather", service_version=version,
        description="", layer=None, instances=1, endpoints=(endpoint,), metadata={},
        status="ready", last_seen_at=AT, created_at=AT, updated_at=AT,
    )  # fmt: skip


def tool(**fields: Any) -> Tool:
    [offer] = rules.offered(service(), AT)
    return offer.model_copy(update=fields)


def call(**fields: Any) -> ToolInvocation:
    command = InvokeTool(name="weather.now", arguments={"city": "Oslo"})
    begun = rules.new_invocation(
        tool(), command, id=rules.invocation_id(CALLER, "k"), caller=CALLER, request_id="r", at=AT
    )
    return begun.model_copy(update=fields)


def test_an_endpoint_with_a_schema_and_a_tool_subject_is_a_tool() -> None:
    [found] = rules.offered(service(timeout_ms="500", repeatable="true"), AT)
    assert (found.name, found.tool_version, found.subject) == (
        "weather.now", "1.0.0", "tool.weather.now",
    )  # fmt: skip
    assert (found.timeout_ms, found.repeatable, found.created_by) == (500, True, "service:weather")


@pytest.mark.parametrize(
    "odd",
    [
        {"input_schema": ""},
        {"input_schema": "not json"},
        {"input_schema": "[]"},
        {"input_schema": '{"$ref": "http://elsewhere/schema"}'},
        {"tool": "../etc"},
        {"version": "latest"},
    ],
)
def test_an_endpoint_that_is_not_of_a_tools_form_is_left_out(odd: dict[str, str]) -> None:
    assert rules.offered(service(**odd), AT) == []


@pytest.mark.parametrize(
    ("said", "taken"), [("x", 10_000), ("1", 100), (10**9, 120_000), ("7000", 7000)]
)
def test_a_timeout_in_metadata_is_brought_into_bounds(said: Any, taken: int) -> None:
    assert rules.bounded_ms(said) == taken


def test_a_known_definition_comes_back_and_another_one_under_its_version_does_not() -> None:
    offer, gone = tool(), tool(status="unavailable", version=2)
    assert rules.learn(offer, None, AT) == (offer, False)
    assert rules.learn(offer, offer, AT) == (None, False)
    back, contradiction = rules.learn(offer, gone, AT)
    assert back is not None
    assert (back.status, back.version, contradiction) == ("active", 3, False)
    assert rules.learn(offer.model_copy(update={"description": "other"}), offer, AT) == (None, True)
    assert rules.learn(offer, tool(status="deprecated"), AT) == (None, False)


def test_a_key_gives_the_same_call_to_its_owner_and_another_one_to_others() -> None:
    other = Principal(id="ben", kind="user")
    assert rules.invocation_id(CALLER, "k") == rules.invocation_id(CALLER, "k")
    assert rules.invocation_id(CALLER, "k") != rules.invocation_id(other, "k")


def test_what_a_second_request_under_a_key_means() -> None:
    again, once = tool(repeatable=True), tool(repeatable=False)
    done = rules.succeeded(call(), {}, AT)
    broken = rules.failed(call(), ToolFailed("no"), AT)
    unreached = rules.failed(call(), Unavailable("nobody"), AT)
    assert rules.what_next(done, once, LATE) == "answer"
    assert rules.what_next(call(), again, AT) == "wait"
    assert rules.what_next(call(), again, LATE) == "again"
    assert rules.what_next(call(), once, LATE) == "give_up"
    assert rules.what_next(broken, again, LATE) == "fail"
    assert rules.what_next(unreached, once, LATE) == "again"
    unheard = rules.failed(call(), ToolTimedOut(), AT)
    assert rules.what_next(unheard, again, LATE) == "again"
    assert rules.what_next(unheard, once, LATE) == "fail"


def test_a_failure_is_answered_again_as_it_was() -> None:
    failed = rules.failed(call(), ToolFailed("no such city", code="7"), AT)
    problem = rules.problem_of(failed)
    assert isinstance(problem, ToolFailed)
    assert (problem.message, problem.details) == ("no such city", {"code": "7"})


def test_a_call_that_runs_again_counts_its_attempts() -> None:
    repeated = rules.again(call(), LATE)
    assert (repeated.attempts, repeated.version, repeated.started_at) == (2, 2, LATE)
    assert rules.succeeded(repeated, 1, LATE + timedelta(seconds=2)).duration_ms == 2000


@given(st.lists(st.sampled_from(sorted(rules.MOVES)), max_size=6))
def test_a_call_never_leaves_the_table_of_moves(path: list[Any]) -> None:
    now = call()
    for to in path:
        allowed = to in rules.MOVES[now.status]
        try:
            now = rules.moved(now, to)
        except AssertionError:
            assert not allowed
        else:
            assert allowed
            assert now.status == to


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"properties": {"default": {"$ref": "#"}}},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$ref": "https://elsewhere/x"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/nowhere"},
        {"$id": "https://elsewhere", "type": "object"},
        {"$dynamicRef": "#x"},
        {"type": "nope"},
        {"allOf": [{"items": {"$ref": "#/allOf/0"}}]},
        {"allOf": [{}], "$ref": "#/allOf/1"},
        {"pattern": "(a+)+(?=b)"},
        {"description": "x" * 40_000},
        {"description": "a\x00b"},
        json.loads('{"not":' * 40 + "{}" + "}" * 40),
        {"$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)}
         | {"a30": {}}, "$ref": "#/$defs/a0"},
    ],
)  # fmt: skip
def test_a_schema_that_is_wrong_foreign_or_too_costly_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadSchema):
        json_schemas.check(schema)


def test_every_built_in_tool_has_usable_schemas_and_a_name_of_its_group() -> None:
    for name, declared in BUILTINS.items():
        definition = declared.definition(AT)
        json_schemas.check(definition.input_schema)
        json_schemas.check(definition.output_schema)
        assert definition.category == name.split(".")[0]
        assert 20 < len(definition.description) < 400
        assert len(json.dumps(definition.input_schema)) < 2_000


def test_a_violation_names_the_place() -> None:
    wrong = json_schemas.violation(SCHEMA, {"city": 7})
    assert wrong is not None
    assert (wrong["path"], wrong["pointer"]) == ("city", "/city")
    assert json_schemas.violation(SCHEMA, {"city": "Oslo"}) is None


def test_what_does_not_fit_is_told_place_by_place_as_the_caller_has_sent_it() -> None:
    numbers = {"type": "array", "items": {"type": "integer"}}
    json_schemas.require_fit(numbers, [1, 2], "/input")
    with pytest.raises(OutsideSchema) as refused:
        json_schemas.require_fit(numbers, ["a", 2, "b" * 9_000], "/input", tool="sum")
    details = refused.value.details
    assert (details["path"], details["pointer"], details["tool"]) == ("0", "/input/0", "sum")
    assert [error["pointer"] for error in details["errors"]] == ["/input/0", "/input/2"]
    with pytest.raises(OutsideSchema) as refused:
        json_schemas.require_fit(numbers, ["a"] * 500, "/input")
    assert len(refused.value.details["errors"]) == json_schemas.ERRORS_SHOWN
    assert len(json.dumps(refused.value.details)) < 20_000


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_value_is_judged_without_breaking(value: Any) -> None:
    json_schemas.violation(SCHEMA, value)
    assert depth_of(value) >= 1


def test_a_very_deep_value_is_refused_before_it_is_walked() -> None:
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    assert json_schemas.violation({}, value) is not None


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.1 + 0.2", "0.3"),
        ("(1200.50 - 300) * 12", "10806.00"),
        ("-7 // 2", "-4"),
        ("2 ** 100", "1267650600228229401496703205376"),
        ("sum([1.10, 2.20, 3.30])", "6.60"),
        ("avg(1, 2)", "1.5"),
        ("round(2.675, 2)", "2.68"),
        ("max(3, 9, 4) - min(3, 9, 4)", "6"),
        ("sqrt(2) ** 2 > 1", None),
        ("__import__('os')", None),
        ("1 / 0", None),
        ("9 ** 9 ** 9", None),
        ("10 ** 900", None),
        ("True + 1", None),
        ("0x10 + 1", None),
        ("'a' * 9", None),
        ("(" * 240 + "1" + ")" * 240, None),
        ("x + 1", None),
        ("[1, 2]", None),
        ("round(1, 99)", None),
        ("sqrt(-1)", None),
    ],
)
def test_arithmetic_is_exact_and_nothing_else_is_calculated(
    expression: str, value: str | None
) -> None:
    if value is None:
        with pytest.raises(OutsideSchema):
            calculate(expression)
    else:
        assert calculate(expression) == (value, False)


@given(st.decimals(-(10**9), 10**9, places=4), st.decimals(-(10**9), 10**9, places=4))
def test_sums_and_products_are_those_of_decimals(a: Decimal, b: Decimal) -> None:
    assert Decimal(calculate(f"({a:f}) + ({b:f})")[0]) == a + b
    assert Decimal(calculate(f"({a:f}) * ({b:f})")[0]) == a * b


@given(st.text(max_size=80))
def test_any_text_is_calculated_or_refused(text: str) -> None:
    try:
        calculate(text)
    except OutsideSchema:
        return


def test_counts_are_those_of_a_patient_reader() -> None:
    counts = counts_of("It rained. Did it stop?\nNo!\n\nDon't ask 1,200 times.")
    assert (counts.words, counts.sentences, counts.lines, counts.paragraphs) == (10, 4, 4, 2)


def test_a_term_is_found_across_line_breaks_and_only_as_whole_words() -> None:
    assert pattern_of(Find(term="data base", text="x")).findall("Data\nbase, metadata base")
    assert not pattern_of(Find(term="cat", text="x")).findall("category")
    assert pattern_of(Find(term="cat", text="x", whole_words=False)).findall("category")


POSITIONS = [
    {
        "document": DOCUMENT,
        "section_ordinal": 2,
        "heading": "Timeline",
        "quote": "It began\nat 14:05.",
    },
    {"document": "b", "section_ordinal": 0, "heading": "", "quote": "It began at 14:35."},
]


def test_every_quoted_line_of_a_report_has_its_citation() -> None:
    report = Report({DOCUMENT: "Report [A]"})
    found = [{"topic": "began", "kind": "time", "positions": POSITIONS}]
    composed = report.part("disagreements", found)
    text = compose("T", [("Where they differ", composed.lines)])
    assert "- “It began at 14:05.” [Report (A) §2 Timeline]" in text
    assert "- “It began at 14:35.” [b §0]" in text
    assert [quote["section"] for quote in composed.quotes] == [2, 0]
    assert documents_in(found) == [DOCUMENT, "b"]


@pytest.mark.parametrize(
    ("kind", "value", "line"),
    [
        ("text", "  Hello.  ", "Hello."),
        ("bullets", ["a\nb", {"text": "c"}], "- a b"),
        ("bullets", [], "Nothing was found."),
        ("disagreements", [], "No claims were found on which the documents disagree."),
        ("figures", {"total": "12.50"}, "- total: 12.50"),
        ("figures", [{"label": "orders", "value": 3, "unit": "pcs"}], "- orders: 3 pcs"),
        ("table", {"columns": [{"name": "a|b"}], "rows": [[1], [None]]}, "| a\\|b |"),
        ("table", [{"x": 1}, {"y": 2}], "| x | y |"),
        ("quotes", {"items": [{"document_id": "d", "ordinal": 1, "text": "Q"}]}, "- “Q” [d §1]"),
    ],
)
def test_a_part_is_written_in_its_kind(kind: str, value: Any, line: str) -> None:
    assert Report({}).part(kind, value).lines[0] == line


@given(
    st.sampled_from(["text", "bullets", "table", "disagreements", "quotes", "figures"]),
    st.recursive(
        st.none() | st.text(max_size=20) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["items", "rows", "columns", "quote", "positions", "document", "x"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
)
def test_any_value_makes_some_part(kind: str, value: Any) -> None:
    documents_in(value)
    assert Report({}).part(kind, value).lines


def test_a_report_that_is_too_long_is_cut_and_says_so() -> None:
    text = compose("T", [("A", ["x" * 100] * 1_000), ("B", ["y"])])
    assert len(text) < 61_000
    assert "cut here" in text
