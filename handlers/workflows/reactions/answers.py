"""Tasks of the inbox that people have answered: the steps that wait for them go on."""

from bus.context import Context
from handlers.workflows import ending, people, service
from schemas.human import TaskAnswered
from schemas.workflows.runs import on_answered


@service.reacts_to(on_answered)
async def follow_answer(event: TaskAnswered, ctx: Context) -> None:
    """End the step that asked; a task has the id of its step."""
    task = event.task
    if task.run_id is None:
        return
    async with ctx.transaction() as tx:
        await ending.tell(tx, task.run_id, task.id, people.answered(task), ctx)
