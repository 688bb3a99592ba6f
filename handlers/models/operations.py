"""What models answer."""

import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import jsonschema_rs

from bus.context import Context
from handlers.models import forms, rules, service, store
from handlers.models.ollama import Provider, Said, provider
from schemas import models
from schemas.contract import Json, Page
from schemas.models import (
    EmbedTexts,
    GenerateText,
    Generation,
    GetModel,
    ListModels,
    Model,
    ModelUnknown,
    OutputOutsideSchema,
    ReportUsage,
    TokenChunk,
    ToolCall,
    Usage,
    Vectors,
)
from schemas.problems import Denied, NotFound

ATTEMPTS = 3


@dataclass(frozen=True)
class Form:
    """What the answer must fit; empty for free text."""

    output: jsonschema_rs.Validator | None
    tools: Mapping[str, jsonschema_rs.Validator]

    @property
    def free(self) -> bool:
        """Nothing can be wrong with the answer, so its tokens may be shown as they come."""
        return self.output is None and not self.tools


@dataclass(frozen=True)
class Spent:
    """What the attempts of one call have used."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, said: Said) -> "Spent":
        """With one more attempt."""
        return Spent(
            self.prompt_tokens + said.prompt_tokens,
            self.completion_tokens + said.completion_tokens,
        )


@service.handles(models.generate)
async def generate(command: GenerateText, ctx: Context) -> Generation:
    """Ask the model until its answer fits, count it once, answer."""
    command = await within_budget(command, ctx)
    started = time.monotonic()
    form = form_of(command)
    server = provider(ctx.settings)
    model = command.model or ctx.settings.chat_model
    options = await options_for(model, command, server, ctx)
    async with server.place():
        said, value, calls, spent = await fitting_answer(model, command, options, form, ctx)
    generation = Generation(
        id=ctx.new_id(), model=model, text=said.text, value=value, tool_calls=calls,
        finish=finish_of(said, calls), prompt_tokens=spent.prompt_tokens,
        completion_tokens=spent.completion_tokens,
        duration_ms=int((time.monotonic() - started) * 1000),
    )  # fmt: skip
    await count(generation, command.purpose, ctx)
    return generation


async def within_budget(command: GenerateText, ctx: Context) -> GenerateText:
    """The request, with an answer no longer than what is left of the tokens of an agent's run.

    Raises:
        Denied: Nothing is left.
    """
    run = ctx.principal.run
    if run is None:
        return command
    row = await ctx.database.row(store.USED_BY_RUN, run.run_id)
    left = run.tokens - (row["tokens"] if row else 0)
    if left <= 0:
        raise Denied("The tokens of the agent's run are used up.", run_id=run.run_id)
    return command.model_copy(update={"tokens_max": min(command.tokens_max, left)})


def form_of(command: GenerateText) -> Form:
    """The compiled schemas of the request."""
    output = command.output_schema
    return Form(
        forms.compiled(output) if output is not None else None,
        {tool.name: forms.compiled(tool.parameters) for tool in command.tools},
    )


async def options_for(model: str, command: GenerateText, server: Provider, ctx: Context) -> Json:
    """The options of every attempt: a context that holds the conversation, and an answer's length.

    Raises:
        ModelUnknown: The server has no such model.
        ContextExceeded: The conversation does not fit.
    """
    known = await described(model, server, ctx)
    if known is None:
        raise ModelUnknown(model=model)
    context, answer_tokens = rules.window(command, known.context)
    options: Json = {"num_predict": answer_tokens}
    return options if context is None else options | {"num_ctx": context}


async def described(name: str, server: Provider, ctx: Context) -> Model | None:
    """The model of this name, if the server has it."""
    found = await server.models(ctx.settings.chat_model, ctx.settings.embedding_model)
    wanted = rules.full_name(name)
    return next((model for model in found if rules.full_name(model.name) == wanted), None)


async def fitting_answer(
    model: str, command: GenerateText, options: Json, form: Form, ctx: Context
) -> tuple[Said, Any, tuple[ToolCall, ...], Spent]:
    """The first of at most three answers that fits, its tokens sent to the lane.

    Tools are offered as the protocol has it, and after a misfit in words under a full schema.

    Raises:
        OutputOutsideSchema: None does.
    """
    spent, reason = Spent(), ""
    for attempt in range(ATTEMPTS):
        try:
            sampled = options | rules.sampling(command, attempt)
            told = forms.in_words(command) if command.tools and attempt else command
            said = await ask(model, told, sampled, form, ctx)
            spent = spent.plus(said)
            if told is not command:
                said.text, said.calls = forms.out_of_words(said.text)
            value, calls = checked(said, form)
        except forms.OutsideForm as outside:
            reason = str(outside)
            continue
        if not form.free:
            show(said.text, ctx)
        return said, value, calls, spent
    await write_off(model, command.purpose, spent, ctx)
    raise OutputOutsideSchema(reason=reason, attempts=ATTEMPTS)


async def ask(model: str, command: GenerateText, options: Json, form: Form, ctx: Context) -> Said:
    """One attempt; free text is shown as it comes, any other only once it is known to fit."""
    shown, said = 0, Said()
    server = provider(ctx.settings)
    async with aclosing(server.chat(model, command, options)) as growing:
        async for said in growing:
            if form.free and ctx.lane is not None and len(said.text) > shown:
                ctx.lane.send(TokenChunk(text=said.text[shown:]))
                shown = len(said.text)
    return said


def checked(said: Said, form: Form) -> tuple[Any, tuple[ToolCall, ...]]:
    """The value and the tool calls of an answer that fits.

    Raises:
        OutsideForm: It does not.
    """
    calls = tuple(forms.checked_call(name, given, form.tools) for name, given in said.calls)
    if calls or form.output is None:
        return None, calls
    return forms.value_in(said.text, form.output), ()


def show(text: str, ctx: Context) -> None:
    """Send a checked text in pieces."""
    if ctx.lane is not None:
        for piece in rules.pieces(text):
            ctx.lane.send(TokenChunk(text=piece))


def finish_of(said: Said, calls: tuple[ToolCall, ...]) -> Literal["stop", "length", "tool_calls"]:
    """Why the model stopped."""
    if calls:
        return "tool_calls"
    return "length" if said.done_reason == "length" else "stop"


async def count(generation: Generation, purpose: str, ctx: Context) -> None:
    """One row of usage, in the transaction that also keeps the answer for its key."""
    async with ctx.transaction() as tx:
        await tx.execute(
            store.COUNT, generation.id, ctx.now(), ctx.principal.id,
            rules.goal_of(ctx.origin.correlation_id), generation.model, purpose, ctx.key,
            generation.prompt_tokens, generation.completion_tokens, generation.duration_ms,
            run_of(ctx),
        )  # fmt: skip


async def write_off(model: str, purpose: str, spent: Spent, ctx: Context) -> None:
    """Count attempts that gave nothing; in no transaction, because the problem undoes that."""
    await ctx.database.execute(
        store.COUNT, ctx.new_id(), ctx.now(), ctx.principal.id,
        rules.goal_of(ctx.origin.correlation_id), model, purpose, None,
        spent.prompt_tokens, spent.completion_tokens, 0, run_of(ctx),
    )  # fmt: skip


def run_of(ctx: Context) -> str | None:
    """The agent's run whose tokens are used."""
    return ctx.principal.run.run_id if ctx.principal.run else None


@service.handles(models.embed)
async def embed(command: EmbedTexts, ctx: Context) -> Vectors:
    """Ask in batches, pad, count."""
    started = time.monotonic()
    model = command.model or ctx.settings.embedding_model
    native, tokens = await provider(ctx.settings).embed(model, command.texts)
    vectors = Vectors(model=model, dimensions=len(native[0]), vectors=rules.padded(native))
    duration_ms = int((time.monotonic() - started) * 1000)
    async with ctx.transaction() as tx:
        await tx.execute(
            store.COUNT, ctx.new_id(), ctx.now(), ctx.principal.id,
            rules.goal_of(ctx.origin.correlation_id), model, "embedding", None,
            tokens, 0, duration_ms, None,
        )  # fmt: skip
    return vectors


@service.handles(models.listing)
async def listing(_: ListModels, ctx: Context) -> Page[Model]:
    """What the server has."""
    server = provider(ctx.settings)
    found = await server.models(ctx.settings.chat_model, ctx.settings.embedding_model)
    return ctx.reached(Page[Model](items=found), lambda model: (None, model.name))


@service.handles(models.get)
async def get(command: GetModel, ctx: Context) -> Model:
    """One of them."""
    found = await described(command.name, provider(ctx.settings), ctx)
    if found is None:
        raise NotFound(name=command.name)
    return found


@service.handles(models.usage)
async def usage(command: ReportUsage, ctx: Context) -> Usage:
    """Sums by model and purpose."""
    at = ctx.now()
    since = at - timedelta(hours=command.hours)
    rows = await ctx.database.rows(store.REPORT, since, command.goal_id, *ctx.visible)
    return rules.usage_since(at, command.hours, rows)


@service.starts
async def open_provider(ctx: Context) -> None:
    """Make the client now: reading its certificates would hold up the event loop later."""
    provider(ctx.settings)
