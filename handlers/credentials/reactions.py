"""What goes on beside the answers: every process of this domain keeps the gate."""

from bus.context import Context
from handlers.credentials import service
from handlers.credentials.gate import open_gate

REOPEN_S = 1.0


@service.every(REOPEN_S)
async def keep_the_gate(ctx: Context) -> None:
    """Let in whoever may come, until this process ends."""
    await open_gate(ctx)
