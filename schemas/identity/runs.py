"""Run tokens: how a program outside of the platform acts in an agent's run.

A run's token is an access token of a session whose id is the run's, and which ends with the run.
It opens what the run itself may call, with the run's tools, tokens and time, and nothing else.
"""

from pydantic import Field

from schemas.agents import RunFinished
from schemas.contract import Operation, Reaction, Schema, Secret
from schemas.identity.sessions import SessionEnded, SessionStarted
from schemas.principal import Principal
from schemas.problems import Denied, IllegalMove, NotFound

RUN_TOKEN_S = 900


class IssueRunToken(Schema):
    """Make a token for the run in which this principal acts, good for 15 minutes at most."""

    principal: Principal
    seconds: int = Field(RUN_TOKEN_S, ge=1, le=RUN_TOKEN_S, description="How long it is needed.")


class RunToken(Schema):
    """A token to be shown as `Authorization: Bearer …`."""

    token: Secret


run_token = Operation(
    "identity.run-token", IssueRunToken, RunToken, internal=True,
    problems=(NotFound, IllegalMove, Denied), emits=(SessionStarted, SessionEnded),
    idempotent=True, commits_itself=True,
)  # fmt: skip

on_run_finished = Reaction("identity-end-run", RunFinished, workers=8)
