"""How a domain puts itself on the bus. This module only registers.

service = Service("agents", layer="L02", about="Agents and their runs.")

@service.handles(agents.create)         one answer to one operation
@service.reacts_to(goals.on_task_ready) work after an event
@service.works(agents.Run)              a job
@service.every(seconds=5)               a sweep, in every process
@service.starts                         once, when the process starts
@service.stops                          once, when it has answered everything and ends
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bus import boundary
from bus.background import forever
from bus.boundary import Endpoint, Handler
from bus.broker import BusBroker
from bus.context import Context, Platform
from bus.credentials import Verifier
from bus.envelope import Origin
from bus.work import Follow, Follower, GiveUp, Perform, Worker
from schemas.contract import Job, Operation, Reaction
from schemas.principal import Principal

Sweep = Callable[[Context], Awaitable[None]]


@dataclass
class Service:
    """One domain: its operations, reactions and jobs with the functions that do them."""

    name: str
    layer: str
    about: str
    handlers: dict[Operation[Any, Any], Handler] = field(default_factory=dict)
    reactions: dict[Reaction, Follow] = field(default_factory=dict)
    jobs: dict[type[Job], tuple[Perform, GiveUp | None]] = field(default_factory=dict)
    sweeps: list[tuple[float, Sweep]] = field(default_factory=list)
    starters: list[Sweep] = field(default_factory=list)
    enders: list[Sweep] = field(default_factory=list)

    def handles(self, operation: Operation[Any, Any]) -> Callable[[Handler], Handler]:
        """This function answers the operation (a task operation: does its job)."""

        def register(function: Handler) -> Handler:
            if operation in self.handlers:
                raise ValueError(f"{operation.name} is handled twice")
            if operation.domain != self.name:
                raise ValueError(f"{operation.name} does not belong to {self.name}")
            self.handlers[operation] = function
            return function

        return register

    def reacts_to(self, reaction: Reaction) -> Callable[[Follow], Follow]:
        """This function follows the reaction's event."""

        def register(function: Follow) -> Follow:
            self.reactions[reaction] = function
            return function

        return register

    def works(
        self, job: type[Job], *, gave_up: GiveUp | None = None
    ) -> Callable[[Perform], Perform]:
        """This function does the job; `gave_up` records that it never will."""

        def register(function: Perform) -> Perform:
            self.jobs[job] = (function, gave_up)
            return function

        return register

    def every(self, seconds: float) -> Callable[[Sweep], Sweep]:
        """This function runs again and again in every process; it must bear being run twice."""

        def register(function: Sweep) -> Sweep:
            self.sweeps.append((seconds, function))
            return function

        return register

    def starts(self, function: Sweep) -> Sweep:
        """This function runs before the process answers anything."""
        self.starters.append(function)
        return function

    def stops(self, function: Sweep) -> Sweep:
        """This function runs when the process answers nothing any more; its servers still do."""
        self.enders.append(function)
        return function


def attach(service: Service, broker: BusBroker, platform: Platform, verifier: Verifier) -> None:
    """Subscribe everything that the service registered."""
    for operation, handler in service.handlers.items():
        answer = handler
        if operation.kind == "task":
            broker.pulls(
                "JOBS", f"job.{operation.name}", operation.name.replace(".", "-"),
                operation.workers, task_worker(operation, handler, platform).consume,
            )  # fmt: skip
            answer = boundary.queued(operation)
        endpoint = Endpoint(operation, answer, platform, verifier)
        broker.answers(operation.subject, service.name, operation.workers, endpoint.answer)
    for reaction, follow in service.reactions.items():
        follower = Follower(reaction, follow, platform)
        broker.pulls(
            "EVENTS", reaction.subject, reaction.durable, reaction.workers, follower.consume
        )
    for job, (perform, give_up) in service.jobs.items():
        worker = Worker(
            job.name, job, perform, platform,
            attempts=job.attempts, timeout_s=job.timeout_s, give_up=give_up,
        )  # fmt: skip
        broker.pulls("JOBS", job.subject(), job.durable(), job.workers, worker.consume)


def task_worker(operation: Operation[Any, Any], handler: Handler, platform: Platform) -> Worker:
    """The worker of a task operation."""
    return Worker(
        operation.name, operation.request, handler, platform,
        attempts=Job.attempts, timeout_s=operation.timeout_s,
    )  # fmt: skip


def own_context(service: Service, platform: Platform) -> Context:
    """The context in which a domain acts for itself."""
    principal = Principal(id=service.name, kind="service", roles=("admin",), via="bus")
    origin = Origin(actor=service.name, roles=("admin",), request_id=platform.clock.new_id())
    return Context(platform, principal, origin)


def sweeps(service: Service, platform: Platform) -> list[asyncio.Task[None]]:
    """Begin the service's sweeps; they run until cancelled."""

    async def once(function: Sweep) -> None:
        await function(own_context(service, platform))

    return [
        asyncio.create_task(
            forever(f"{service.name}.{function.__name__}", partial(once, function), seconds)
        )
        for seconds, function in service.sweeps
    ]
