"""Models: lengths, schemas and attempts, without any server."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.models import forms, rules
from schemas.models import ContextExceeded, GenerateText, Message, ToolOffer
from schemas.problems import OutsideSchema, Upstream

PRICE = {"type": "object", "properties": {"price": {"type": "integer"}}, "required": ["price"]}


def asked(content="hello", **fields):
    return GenerateText(messages=(Message(role="user", content=content),), **fields)


def doubling(levels):
    """A short schema whose references unfold to 2 ** levels nodes."""
    steps = {
        f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]}
        for n in range(levels)
    }
    return {"$defs": steps | {f"a{levels}": {}}, "$ref": "#/$defs/a0"}


@given(st.text(max_size=400), st.text(max_size=400))
def test_more_text_never_has_fewer_tokens(a, b):
    assert 0 <= rules.tokens_of(a) <= rules.tokens_of(a + b) + 1


def test_prose_is_counted_rather_high():
    prose = "The nightly load aborted after a third of the rows because the disk was full. " * 20
    words = len(prose.split())
    assert words <= rules.tokens_of(prose) <= 3 * words


@given(st.integers(0, 6000), st.integers(1, 8192), st.sampled_from([512, 4096, 8192, 131_072]))
def test_prompt_and_answer_fit_the_window_or_are_refused(words, tokens_max, context):
    command = asked("word " * words, tokens_max=tokens_max)
    try:
        size, answer = rules.window(command, context)
    except ContextExceeded:
        assert rules.prompt_tokens(command) >= context
        return
    assert size is not None
    assert rules.prompt_tokens(command) + answer <= size <= context
    assert 1 <= answer <= tokens_max


def test_a_model_that_does_not_tell_its_context_gets_none():
    assert rules.window(asked(tokens_max=7), None) == (None, 7)


def test_offered_tools_count_as_prompt():
    tool = ToolOffer(name="t", description="d" * 4000, parameters=PRICE)
    assert rules.prompt_tokens(asked(tools=(tool,))) > rules.prompt_tokens(asked()) + 900


def test_the_smaller_of_set_and_trained_context_counts():
    info = {"llama.context_length": 8192}
    assert rules.context_of("stop x\nnum_ctx 4096", info) == 4096
    assert rules.context_of(None, info) == 8192
    assert rules.context_of("temperature 1", None) is None


def test_a_name_without_a_tag_is_the_latest():
    assert rules.full_name("all-minilm") == rules.full_name("all-minilm:latest")
    assert rules.full_name("host:80/x") == "host:80/x:latest"
    assert rules.purposes_of("m:latest", "m", "m") == ("chat", "embedding")
    assert rules.purposes_of("n", "m", "m") == ()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"pattern": "("},
        {"$ref": "http://127.0.0.1:9/x.json"},
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        doubling(30),
        {"description": "x" * 40_000},
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema):
    with pytest.raises(OutsideSchema):
        forms.compiled(schema)


def test_only_json_that_fits_is_a_value():
    price = forms.compiled(PRICE)
    assert forms.value_in('{"price": 3}', price) == {"price": 3}
    for bad in ('{"price": "3"}', "{}", '{"price": 3', "", "NaN"):
        with pytest.raises(forms.OutsideForm):
            forms.value_in(bad, price)


def test_a_tool_call_names_an_offered_tool_and_fits_its_schema():
    offered = {"shop.price": forms.compiled(PRICE)}
    assert forms.checked_call("shop.price", {"price": 1}, offered).arguments == {"price": 1}
    for name, arguments in (("shop.steal", {"price": 1}), ("shop.price", {"price": "1"})):
        with pytest.raises(forms.OutsideForm):
            forms.checked_call(name, arguments, offered)


def test_tools_told_in_words_keep_all_of_their_schema():
    ranged = {"$defs": {"p": {"type": "integer", "minimum": 3}},
              "properties": {"price": {"$ref": "#/$defs/p"}}, "required": ["price"]}  # fmt: skip
    tool = ToolOffer(name="shop.price", description="Prices", parameters=ranged)
    told = forms.in_words(asked(tools=(tool,)))
    assert told.tools == ()
    assert "shop.price" in told.messages[0].content
    assert told.messages[1:] == asked().messages
    form = forms.compiled(told.output_schema)
    assert form.is_valid({"tool": "shop.price", "args": {"price": 3}})
    assert form.is_valid({"answer": "none"})
    for bad in ({"tool": "shop.price", "args": {"price": 2}}, {"tool": "x", "args": {}}, {}):
        assert not form.is_valid(bad)


def test_an_answer_in_words_is_a_call_or_a_text():
    call = '{"tool": "shop.price", "args": {"price": 3}}'
    assert forms.out_of_words(call) == ("", [("shop.price", {"price": 3})])
    assert forms.out_of_words('{"answer": "no"}') == ("no", [])
    assert forms.out_of_words('{"answer": {"n": 1}}') == ('{"n":1}', [])
    for bad in ("", "[]", "3", "{}", '{"tool": "x"}', '{"tool": "x", "args": 3}'):
        with pytest.raises(forms.OutsideForm):
            forms.out_of_words(bad)


@given(st.integers(0, rules.SEED_MAX), st.floats(0, 2))
def test_no_two_attempts_are_alike(seed, temperature):
    command = asked(seed=seed, temperature=temperature)
    attempts = [rules.sampling(command, n) for n in range(3)]
    assert attempts[0]["temperature"] == temperature
    assert len({a["seed"] for a in attempts}) == 3
    assert all(a["temperature"] >= rules.RETRY_TEMPERATURE_MIN for a in attempts[1:])
    assert all(0 <= a["seed"] <= rules.SEED_MAX for a in attempts)


@given(st.text(max_size=500))
def test_the_pieces_of_a_text_are_the_text(text):
    assert "".join(rules.pieces(text)) == text


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=768))
def test_padding_keeps_the_numbers_and_adds_zeros(vector):
    [padded] = rules.padded([vector])
    assert len(padded) == rules.DIMENSIONS
    assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(vector, padded, strict=False))
    assert not any(padded[len(vector) :])


@pytest.mark.parametrize("vector", [[], [0.1] * 769, [float("nan")], [float("inf")]])
def test_a_vector_of_another_kind_is_the_servers_fault(vector):
    with pytest.raises(Upstream):
        rules.padded([vector])


def test_usage_belongs_to_a_goal_only_when_the_work_is_part_of_one():
    goal = "0192f0c1-2345-7abc-8def-0123456789ab"
    assert rules.goal_of(goal) == goal
    assert rules.goal_of("nightly") is None
    assert rules.goal_of(None) is None
