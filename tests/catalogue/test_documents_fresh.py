"""The rendered documents are checked in, valid, and complete."""

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from schemas import catalogue
from schemas.problems import ANY_OPERATION
from schemas.render import asyncapi, openapi
from schemas.render.__main__ import stale

ROOT = Path(__file__).resolve().parents[2]


def test_no_rendered_document_is_stale() -> None:
    assert stale(ROOT) == [], "run `make generate` and commit what it writes"


@pytest.mark.parametrize("render", [openapi.render, openapi.render_3_0])
def test_openapi_is_valid(render: Any) -> None:
    validate(json.loads(json.dumps(render())))


def test_every_operation_is_documented_with_all_its_problems() -> None:
    paths = openapi.render()["paths"]
    for operation in catalogue.operations():
        if operation.route is None:
            continue
        described = paths["/api/v1" + operation.route.path][operation.route.method.lower()]
        assert described["operationId"] == operation.name
        assert described["summary"]
        assert described["x-permission"] == operation.may
        codes = {c for r in described["responses"].values() for c in r.get("x-problems", ())}
        assert {p.code for p in (*operation.problems, *ANY_OPERATION)} <= codes
        named = {p["name"] for p in described["parameters"] if "name" in p}
        body = described.get("requestBody", {}).get("content", {}).get("application/json", {})
        shown = body.get("schema", {})
        properties = shown.get("properties") or (
            operation.request.model_fields if "$ref" in shown else {}
        )
        hidden = {operation.upload} if operation.upload else set()
        assert named | set(properties) == set(operation.request.model_fields) - hidden


def test_references_in_asyncapi_point_at_something() -> None:
    document = json.loads(json.dumps(asyncapi.render()))

    def references(value: Any) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    for reference in set(references(document)):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        assert found is not None


def test_asyncapi_names_every_subject_of_the_catalogue() -> None:
    addresses = {channel["address"] for channel in asyncapi.render()["channels"].values()}
    assert {operation.subject for operation in catalogue.operations()} <= addresses
    assert {f"{event.subject_root()}.{{id}}" for event in catalogue.events()} <= addresses
    assert {job.subject() for job in catalogue.jobs()} <= addresses
