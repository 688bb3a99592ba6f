"""Servers for tests: the supervisor's own specs on free ports, below a folder of the test's.

`durable=False` gives up safety against power loss for speed and keeps everything else. Nothing
is locked or remembered; a server that is killed comes back, as in an installation.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.embedded import servers
from deploy.embedded.folder import DataFolder
from deploy.embedded.ports import Ports
from deploy.embedded.progress import Quiet
from deploy.embedded.supervisor import Supervisor


class Servers:
    """Running servers while in the `async with` block.

    `want` is any of "nats", "postgres", "redis", "ollama". The URL of a service that is not
    wanted raises KeyError. The folder may be used again after the end; data is still there.
    """

    def __init__(self, root: Path, durable: bool, want: set[str]) -> None:  # noqa: FBT001 - two kinds
        self._folder = DataFolder(root.resolve())
        self._durable = durable
        self._want = want
        self._urls: dict[str, str] = {}
        self.supervisor = Supervisor(self._folder, Quiet())

    async def __aenter__(self) -> Self:
        self._folder.make()
        ports = Ports(None, Quiet().tell)
        plan = servers.plan(self._folder, ports, self._want, durable=self._durable, fixed=False)
        self._urls = plan.urls
        try:
            await self.supervisor.start(plan.specs)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        await self.supervisor.stop()
        self._folder.forget_run()

    @property
    def nats_url(self) -> str:
        """Without credentials: the seeds are in `secrets/nats`."""
        return self._urls["nats"]

    @property
    def postgres_url(self) -> str:
        """The database `portal` as its owner, who may create databases if not `durable`."""
        return self._urls["postgres"]

    @property
    def redis_url(self) -> str:
        """With password."""
        return self._urls["redis"]

    @property
    def ollama_url(self) -> str:
        """The model server; needs no password."""
        return self._urls["ollama"]
