"""Every row with its bars, in the order in which they are measured.

group      what runs meanwhile                               rows
shipped    `portal up`, as it is                             cases, runs, tokens
scripted   the same, over a model server that never ends     cancels, history
peers      nothing of ours (`--peers`)                       DBOS, Restate
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tests.load import cancels, cases, history, revoking, runs, tokens
from tests.load.machine import running
from tests.load.peers import measuring
from tests.load.peers.installed import installed
from tests.load.rows import Bar, Case, Row

EDGE_AND_BUS = ("edge", "nats")
AT_ONCE = 20
RAW = "raw nats-py request-reply"


@dataclass(frozen=True)
class Group:
    """Rows that are measured on the same installation."""

    start: Callable[[], AbstractContextManager[Any]]
    cases: tuple[Case, ...]


def cpu(row: Row) -> float:
    """CPU ms over all processes."""
    return row.cpu_ms_total


def rate(row: Row) -> float:
    """A second."""
    return row.measured.rate


def failed(row: Row) -> float:
    """How many."""
    return row.measured.failed


def p50(row: Row) -> float:
    """Milliseconds."""
    return row.p(0.5)


def p99(row: Row) -> float:
    """Milliseconds."""
    return row.p(0.99)


def of_edge_and_bus(row: Row) -> float:
    """CPU ms of these processes."""
    return sum(row.cpu_ms.get(name, 0.0) for name in EDGE_AND_BUS)


def share_of(row: Row, other: Row) -> float:
    """How fast, beside the other."""
    return row.measured.rate / other.measured.rate if other.measured.rate else 0.0


SHIPPED = Group(
    running,
    (
        Case("bare Starlette JSON", cases.bare_starlette),
        Case(
            "full-stack read", cases.full_read,
            (
                Bar("whole read by API key, CPU ms", 1.2, cpu),
                Bar("edge and bus hop, CPU ms", 0.6, of_edge_and_bus),
                Bar("reads a second", 1000, rate, at_least=True),
            ),
        ),
        Case(
            "read by token, remembered", lambda m: cases.token_read(m, cached=True),
            (Bar("whole read by token, CPU ms", 1.2, cpu),),
        ),
        Case("read by token, verified each time", lambda m: cases.token_read(m, cached=False)),
        Case("full-stack write", cases.full_write),
        Case(
            "events to 1 socket", lambda m: cases.sockets(m, 1),
            (Bar("event to socket p99 ms", 150, p99),),
        ),
        Case(f"events to {cases.SOCKETS} sockets", lambda m: cases.sockets(m, cases.SOCKETS)),
        Case(RAW, cases.raw_replies),
        Case(
            "our request-reply", cases.our_replies,
            (Bar("request-reply, share of raw", 0.25, share_of, at_least=True, beside=RAW),),
        ),
        Case(
            "revoked key at another edge", revoking.revoked,
            (
                Bar("revoked key let in, p99 ms", 1000, p99),
                Bar("revoked keys never refused", 0, failed),
            ),
        ),
        Case(
            "durable run of 3 steps, 1 at once", lambda m: runs.durable_runs(m, runs.COMPUTES, 1),
            (Bar("durable run alone, p50 ms", 20, p50),),
        ),
        Case(
            f"durable run of 3 steps, {AT_ONCE} at once",
            lambda m: runs.durable_runs(m, runs.COMPUTES, AT_ONCE),
            (Bar("durable run of 3 steps, CPU ms", 9, cpu),),
        ),
        Case(
            "durable run of 3 asking steps, 1 at once",
            lambda m: runs.durable_runs(m, runs.ASKS, 1),
        ),
        Case(
            f"durable run of 3 asking steps, {AT_ONCE} at once",
            lambda m: runs.durable_runs(m, runs.ASKS, AT_ONCE),
        ),
        Case(
            f"{runs.MANY} runs of {runs.MANY_STEPS} steps",
            lambda m: runs.many_runs(m, runs.COMPUTES),
            (Bar(f"{runs.MANY} runs at once, failed", 0, failed),),
        ),
        Case(
            f"{runs.MANY} runs of {runs.MANY_STEPS} asking steps",
            lambda m: runs.many_runs(m, runs.ASKS),
            (Bar(f"{runs.MANY} asking runs at once, failed", 0, failed),),
        ),
        Case(
            f"tokens of {tokens.RUNS} runs to {tokens.VIEWERS} viewers each", tokens.watched,
            (
                Bar("tokens lost", 0, tokens.lost),
                Bar("tokens doubled", 0, tokens.doubled),
            ),
        ),
    ),
)  # fmt: skip

SCRIPTED = Group(
    cancels.scripted,
    (
        Case(
            "cancel reaches a model", cancels.of_model,
            (
                Bar("cancel to model p99 ms", 250, p99),
                Bar("cancels that reached no model", 0, failed),
            ),
        ),
        Case(
            "cancel reaches a tool", cancels.of_tool,
            (
                Bar("cancel to tool p99 ms", 250, p99),
                Bar("cancels that reached no tool", 0, failed),
            ),
        ),
        Case(
            "replay into scratch", history.replay,
            (Bar("events replayed a second", 20_000, rate, at_least=True),),
        ),
        Case(
            "stream rebuilt from the log", history.rebuild,
            (Bar("events not published again", 0, failed),),
        ),
    ),
)  # fmt: skip

PEERS = Group(
    installed,
    tuple(
        Case(f"{name}, 3 steps, {at_once} at once", lambda p, f=function, n=at_once: f(p, n))
        for name, function in (("DBOS", measuring.dbos), ("Restate", measuring.restate))
        for at_once in (1, AT_ONCE)
    ),
)
