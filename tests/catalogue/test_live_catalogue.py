"""What a running platform subscribes to is what the catalogue declares; nothing more or less."""

import asyncio
import json

from bus import topology
from schemas import catalogue
from tests.conftest import eventually

ANSWERS_S = 0.5


async def asked_all(connection, subject, wanted):
    """The answers of every service."""
    inbox = connection.new_inbox()
    answers = []
    subscription = await connection.subscribe(inbox)
    await connection.publish(subject, b"", reply=inbox)
    while len(answers) < wanted:
        message = await asyncio.wait_for(subscription.next_msg(timeout=5), 5)
        answers.append(json.loads(message.data))
    await subscription.unsubscribe()
    return answers


async def test_the_services_answer_exactly_the_operations_of_the_catalogue(platform):
    answers = await asked_all(platform.connection, "$SRV.INFO", len(catalogue.DOMAINS))
    subjects = [e["subject"] for answer in answers for e in answer["endpoints"]]

    assert sorted(subjects) == sorted(o.subject for o in catalogue.operations())


async def test_the_server_holds_exactly_the_consumers_of_the_topology_and_each_is_pulled(platform):
    jetstream = platform.connection.jetstream()
    wanted = topology.consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())

    async def pulled():
        infos = [i for s in ("EVENTS", "JOBS") for i in await jetstream.consumers_info(s)]
        durable = {(i.stream_name, i.name) for i in infos if i.config.durable_name}
        assert durable == {(c.stream, c.durable) for c in wanted}
        return all(i.num_waiting for i in infos if i.config.durable_name)

    await eventually(pulled)


async def test_a_plan_of_an_applied_topology_changes_nothing(platform):
    wanted = topology.consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())

    assert await topology.plan(platform.connection.jetstream(), wanted, 1) == []


async def test_a_consumer_that_nothing_asks_for_any_more_goes_when_it_is_said_to(platform):
    jetstream = platform.connection.jetstream()
    wanted = topology.consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())
    ours, others = ("goals-did-once", "warehouse-follow-goals")
    for durable in (ours, others):
        config = topology.Consumer("EVENTS", durable, "evt.goals.>").config()
        await jetstream.add_consumer("EVENTS", config)

    gone = topology.Change("delete", "consumer", f"EVENTS/{ours}")
    assert await topology.plan(jetstream, wanted, 1) == [gone]
    assert await topology.apply(jetstream, wanted, 1) == []
    assert await topology.apply(jetstream, wanted, 1, prune=True) == [gone]
    assert (await jetstream.consumer_info("EVENTS", others)).name == others
    await jetstream.delete_consumer("EVENTS", others)
    assert await topology.plan(jetstream, wanted, 1) == []
