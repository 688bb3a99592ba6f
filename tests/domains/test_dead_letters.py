"""Dead letters: listed, opened, sent again and dropped by those who may."""

import base64

import orjson
import pytest

from bus.service import own_context
from bus.statement import Statement
from handlers.integration import reactions, service
from schemas import agents, events, integration
from schemas.agents import AgentCreated
from schemas.events import QueryEvents
from schemas.identity import grants
from schemas.identity.grants import Give
from schemas.integration import DropLetter, GetDeadLetter, ListDeadLetters, RequeueLetter
from schemas.problems import Denied, IllegalMove, NotFound
from tests.conftest import eventually, look
from tests.factories import create_agent

pytestmark = pytest.mark.usefixtures("platform")
LETTER = "0192f0c0-0000-7000-8000-00000000000"
JOB = "0192f0c0-0000-7000-8000-0000000000ff"
INSERT = Statement(
    """
    INSERT INTO ops.dead_letters
        (id, state, stream, consumer, subject, message_id, headers, body, error_type, error,
         deliveries, failures, handler_version, aggregate_id, aggregate_version, job_id,
         created_at, settled_at)
    VALUES ($1, $2, $3, $4, 'evt.made.up', 'm' || $1::uuid::text, '{"ce-id": "m"}', 'body', 'Odd', 'odd',
            8, 8, '1', $5, $6, $7, now() - make_interval(days => $8),
            CASE WHEN $2 IN ('done', 'dropped') THEN now() - make_interval(days => $8) END)
    """
)
ROWS = (
    ("0", "dead", "EVENTS", "workflows-follow-agent", "a", 1, None, 0),
    ("1", "parked", "EVENTS", "workflows-follow-agent", "a", 2, None, 0),
    ("2", "dead", "EVENTS", "identity-end-run", None, None, None, 1),
    ("3", "dead", "JOBS", "documents-ingest", None, None, JOB, 2),
    ("4", "dropped", "EVENTS", "workflows-follow-agent", "b", 1, None, 3),
    ("5", "done", "EVENTS", "workflows-follow-agent", "b", 2, None, 40),
)


@pytest.fixture
async def letters(platform):
    """Rows as the bus writes them."""
    for number, *values in ROWS:
        await platform.database.execute(INSERT, f"{LETTER}{number}", *values)


async def listed(ask, **wanted):
    page = await ask(integration.dead_letters, ListDeadLetters(**wanted))
    return [letter.id[-1] for letter in page.items]


async def test_letters_are_listed_newest_first_by_stream_consumer_and_state(ask, letters):
    everything = await listed(ask)
    assert (set(everything[:2]), everything[2:5]) == ({"0", "1"}, ["2", "3", "4"])
    assert await listed(ask, stream="JOBS") == ["3"]
    assert await listed(ask, consumer="identity-end-run") == ["2"]
    assert await listed(ask, state="parked") == ["1"]
    first = await ask(integration.dead_letters, ListDeadLetters(state="dead", limit=2))
    rest = await listed(ask, state="dead", cursor=first.next)
    assert [letter.id[-1] for letter in first.items] + rest == ["0", "2", "3"]


async def test_a_letter_is_opened_with_headers_body_and_how_many_wait_behind_it(ask, letters):
    opened = await ask(integration.dead_letter, GetDeadLetter(id=f"{LETTER}0"))
    assert (opened.body, opened.encoding, opened.headers) == ("body", "text", {"ce-id": "m"})
    assert (opened.behind, opened.error, opened.deliveries) == (1, "odd", 8)
    with pytest.raises(NotFound):
        await ask(integration.dead_letter, GetDeadLetter(id=JOB))


async def test_what_nobody_can_read_is_shown_and_breaks_no_list(ask, platform):
    jetstream, body = platform.connection.jetstream(), b"\xff\x00\xfe not json"
    headers = {"ce-type": "agents.run_finished", "x-odd": "caf\u00e9"}
    await jetstream.publish("evt.agents.run_finished.odd", body, headers=headers)

    async def given_up():
        page = await ask(integration.dead_letters, ListDeadLetters(state="dead"))
        found = {letter.consumer: letter for letter in page.items}
        return found if {"workflows-follow-agent", "identity-end-run"} <= found.keys() else None

    found = await eventually(given_up)
    for letter in found.values():
        opened = await ask(integration.dead_letter, GetDeadLetter(id=letter.id))
        assert (base64.b64decode(opened.body), opened.encoding) == (body, "base64")
        assert (opened.error_type, opened.deliveries, opened.failures) == ("Unreadable", 1, 1)
        assert opened.handler_version


async def test_poison_of_a_real_reaction_is_mended_by_dropping_it(ask, platform):
    agent = await ask(agents.create, create_agent())
    [stored] = (await ask(events.query, QueryEvents(aggregate_id=agent.id))).items
    headers = {"ce-type": AgentCreated.name, "ce-id": "odd-1", "ce-subject": "r1"}
    odd = headers | {"ce-type": "agents.run_finished"}
    jetstream = platform.connection.jetstream()
    await jetstream.publish("evt.agents.run_finished.r1", orjson.dumps(stored.payload), headers=odd)

    async def dead():
        page = await ask(
            integration.dead_letters,
            ListDeadLetters(consumer="workflows-follow-agent", state="dead"),
        )
        return page.items

    [letter] = await eventually(dead)
    assert letter.aggregate_id == "r1"
    assert letter.aggregate_type == "run"
    command = DropLetter(id=letter.id, reason="Not a run.")
    assert (await ask(integration.drop_letter, command, key="d")).state == "dropped"
    assert await dead() == ()


async def test_operators_and_admins_settle_letters_and_nobody_else_sees_them(ask_as, letters):
    for role in ("developer", "viewer"):
        for operation, command in (
            (integration.dead_letters, ListDeadLetters()),
            (integration.dead_letter, GetDeadLetter(id=f"{LETTER}0")),
            (integration.requeue_letter, RequeueLetter(id=f"{LETTER}0")),
            (integration.drop_letter, DropLetter(id=f"{LETTER}0", reason="x")),
        ):
            with pytest.raises(Denied):
                await ask_as(role)(operation, command)
    for role, number in (("operator", "2"), ("admin", "0")):
        command = RequeueLetter(id=f"{LETTER}{number}")
        answer = await ask_as(role)(integration.requeue_letter, command, key=number)
        assert (answer.state, answer.requeues) == ("requeued", 1)


async def test_a_letter_that_is_denied_to_somebody_is_in_no_list_of_theirs(ask, ask_as, letters):
    denied = Give(
        subject="role:operator", permission="dead-letters:read", thing=f"{LETTER}2", allow=False
    )
    await ask(grants.give, denied, key="g")
    operator = ask_as("operator")

    async def hidden():
        return "2" not in await listed(operator)

    await eventually(hidden)
    with pytest.raises(NotFound):
        await operator(integration.dead_letter, GetDeadLetter(id=f"{LETTER}2"))
    assert "0" in await listed(operator)


async def test_only_the_head_is_sent_again_and_only_what_is_open_is_dropped(ask, letters):
    for number in ("1", "4"):
        with pytest.raises(IllegalMove):
            await ask(integration.requeue_letter, RequeueLetter(id=f"{LETTER}{number}"))
    with pytest.raises(IllegalMove):
        await ask(integration.drop_letter, DropLetter(id=f"{LETTER}5", reason="x"))
    with pytest.raises(NotFound):
        await ask(integration.requeue_letter, RequeueLetter(id=JOB))
    dropped = await ask(integration.drop_letter, DropLetter(id=f"{LETTER}4", reason="again"))
    assert dropped.state == "dropped"


async def test_a_job_whose_row_is_gone_is_not_sent_again(ask, letters):
    with pytest.raises(IllegalMove, match="row is gone"):
        await ask(integration.requeue_letter, RequeueLetter(id=f"{LETTER}3"))
    assert await listed(ask, stream="JOBS", state="dead") == ["3"]


async def test_each_decision_is_an_event_with_who_and_why(ask_as, letters):
    ask, letter_id = ask_as("operator", "olga"), f"{LETTER}2"
    for _ in range(2):
        await ask(integration.requeue_letter, RequeueLetter(id=letter_id))
    await ask(integration.drop_letter, DropLetter(id=letter_id, reason="Void."))
    story = (await ask(events.query, QueryEvents(aggregate_id=letter_id))).items
    assert [event.type for event in story] == [
        "integration.letter_requeued",
        "integration.letter_dropped",
    ]
    decision = story[1].payload["decision"]
    assert (decision["reason"], decision["decided_by"]) == ("Void.", "olga")
    opened = await ask(integration.dead_letter, GetDeadLetter(id=letter_id))
    assert (opened.reason, opened.state) == ("Void.", "dropped")
    viewer = ask_as("viewer")
    assert (await viewer(events.query, QueryEvents(aggregate_id=letter_id))).items == ()


async def test_settled_letters_are_kept_for_thirty_days_and_open_ones_until_they_are_settled(
    ask, platform, letters
):
    await reactions.forget(own_context(service, platform))
    rows = await look(platform, "SELECT id FROM ops.dead_letters ORDER BY id")
    assert [row["id"][-1] for row in rows] == ["0", "1", "2", "3", "4"]
