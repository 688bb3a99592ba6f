"""Everything the platform can do, read off the domains' modules.

To add a domain, name it here and in `handlers/__init__.py`; a test compares both with the folders.
"""

import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from schemas.contract import Entity, Event, Job, Operation, Problem, Reaction

DOMAINS = (
    "identity",
    "credentials",
    "events",
    "audit",
    "documents",
    "models",
    "tools",
    "agents",
    "goals",
    "evaluation",
    "registry",
    "supervision",
    "integration",
    "vault",
    "workflows",
    "human",
)


@cache
def modules() -> tuple[ModuleType, ...]:
    """The domains' modules, in order; a large domain is a package with a module a topic."""
    return tuple(module for domain in DOMAINS for module in modules_of(f"schemas.{domain}"))


def modules_of(name: str) -> Iterator[ModuleType]:
    """A module, and those inside it if it is a package."""
    module = import_module(name)
    yield module
    for inner in pkgutil.iter_modules(getattr(module, "__path__", ())):
        yield from modules_of(f"{name}.{inner.name}")


def declared() -> Iterator[Any]:
    """Every value that stands in a domain's module and was made there."""
    for module in modules():
        yield from vars(module).values()


@cache
def operations() -> tuple[Operation[Any, Any], ...]:
    """Every operation, in the order of declaration."""
    return tuple(dict.fromkeys(value for value in declared() if isinstance(value, Operation)))


@cache
def reactions() -> tuple[Reaction, ...]:
    """Every reaction to an event."""
    return tuple(dict.fromkeys(value for value in declared() if isinstance(value, Reaction)))


def classes(base: type) -> tuple[Any, ...]:
    """Subclasses of `base` that were defined in a domain's module, without doubles."""
    found = dict.fromkeys(
        value
        for module in modules()
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
    )
    return tuple(found)


@cache
def events() -> tuple[type[Event], ...]:
    """Every event."""
    return classes(Event)


@cache
def jobs() -> tuple[type[Job], ...]:
    """Every job."""
    return classes(Job)


@cache
def entities() -> tuple[type[Entity], ...]:
    """Every entity that has a table."""
    return tuple(entity for entity in classes(Entity) if entity.table)


@cache
def problems() -> tuple[type[Problem], ...]:
    """Every problem, sorted by code."""
    for _ in modules():
        pass
    return tuple(Problem.by_code[code] for code in sorted(Problem.by_code))


@cache
def operation(name: str) -> Operation[Any, Any]:
    """The operation of this name.

    Raises:
        KeyError: There is none.
    """
    return {o.name: o for o in operations()}[name]
