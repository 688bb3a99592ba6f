"""The inbox at the doors of people: live to those whom it concerns, and answered over REST."""

from typing import Any

from bus.clock import Clock
from schemas import human
from schemas.human import AskPerson


async def test_people_see_live_what_concerns_them_and_answer_it(
    http: Any, watch: Any, key_of: Any, ask: Any
) -> None:
    async def put(**fields: Any) -> str:
        command = AskPerson(id=Clock().new_id(), owner_id="admin", title="Delete?", **fields)
        return str((await ask.as_edge(human.ask, command)).id)

    key = {"authorization": f"Bearer {await key_of('viewer')}"}
    async with watch(additional_headers=key) as socket:
        await socket.next("hello")
        await socket.send(op="subscribe", topics=["inbox"])
        await socket.next("subscribed")
        named = await put(assignee_id="viewer", content={"rows": 7})
        await key_of("operator")
        await put(assignee_id="operator")
        of_role = await put(for_role="viewer")
        seen = [await socket.next("event") for _ in range(2)]
        assert [event["entity_id"] for event in seen] == [named, of_role]
        task = seen[0]["data"]["task"]
        answer = {"answer": {"approved": True}, "sha256": task["sha256"]}
        answered = await http.post(f"/inbox/{named}/answer", json=answer, headers=key)
        assert answered.status_code == 200, answered.text
        told = await socket.next("event")
    assert (told["type"], told["entity_id"]) == ("human.task_answered", named)
    assert told["data"]["task"]["content"] == {"rows": 7}
