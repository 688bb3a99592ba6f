"""Who calls whom is declared once, and the code does exactly that."""

import ast
from importlib import import_module

import pytest

from schemas import catalogue, wiring
from schemas.contract import Operation
from tests.tidy import project

MODULES = {module.__name__ for module in catalogue.modules()}


def asked_in(files):
    """Every operation that these files name."""
    found = set()
    for file in files:
        tree = ast.parse(project.read(file))
        modules = {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("schemas")
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module = modules.get(node.value.id, "")
                named = module in MODULES and getattr(import_module(module), node.attr, None)
                found |= {named} if isinstance(named, Operation) else set()
    return found


@pytest.mark.parametrize("domain", catalogue.DOMAINS)
def test_a_domain_asks_of_others_exactly_what_is_declared(domain):
    mine = [f for f in project.named(".py") if f.parts[:2] == ("handlers", domain)]
    asked = {operation for operation in asked_in(mine) if operation.domain != domain}

    assert asked == set(wiring.of(domain).calls)


def test_the_edge_asks_what_has_a_route_and_exactly_what_is_declared_besides():
    mine = [f for f in project.named(".py") if f.parts[0] == "edge"]

    assert {o for o in asked_in(mine) if o.route is None} == set(wiring.EDGE.calls)


def test_every_process_asks_exactly_what_is_declared():
    mine = [f for f in project.named(".py") if f.parts[0] == "bus"]

    assert asked_in(mine) == set(wiring.EVERY_PROCESS.calls)


def test_everything_that_is_wired_is_there():
    assert set(wiring.DOMAINS) <= set(catalogue.DOMAINS)
    for wired in wiring.DOMAINS.values():
        assert set(wired.hears) <= set(catalogue.events())
