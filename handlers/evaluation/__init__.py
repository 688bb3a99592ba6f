"""Evaluation: how good a result is."""

from bus.service import Service

service = Service(
    "evaluation", layer="L06", about="Scores of results, by rules that anybody can check."
)
