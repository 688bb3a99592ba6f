"""Evaluation: how good a result is, judged by rules that anybody can check."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from schemas.contract import Entity, Event, Id, Json, Listing, Operation, Page, Schema, Text

Grade = Literal["A", "B", "C", "D", "F"]


class QualityScore(Entity, table="mcp_documents.quality_scores"):
    """What one evaluation found."""

    subject_type: str
    subject_id: Id
    evaluator: str
    dimensions: Json
    score: float
    grade: Grade
    findings: tuple[str, ...]
    evaluated_at: datetime


class ScoreResult(Schema):
    """Score a result: is it there, does it cover the question, is each figure from a source."""

    subject_type: Literal["goal", "task", "artifact"] = "goal"
    subject_id: Id
    question: Text
    text: Text = Field(description="The result as text.")
    facts: tuple[Json, ...] = Field((), max_length=1000, description="What tools computed.")
    provenance: tuple[Json, ...] = Field((), max_length=1000)


class ListScores(Listing):
    """List scores, newest first."""

    subject_type: str | None = None
    subject_id: Id | None = None


class QualityScored(Event, name="evaluation.scored"):
    """A result was judged."""

    score: QualityScore


score = Operation(
    "evaluation.score", ScoreResult, QualityScore, rest="POST /evaluations -> 201",
    may="quality:execute", emits=(QualityScored,), idempotent=True, timeout_s=10,
    body_bytes_max=512 * 1024,
)  # fmt: skip
scores = Operation(
    "evaluation.scores", ListScores, Page[QualityScore], rest="GET /quality-scores",
    may="quality:read",
)  # fmt: skip
