"""How often API keys are used: counted here, added up by identity every few seconds."""

from bus import telemetry
from bus.client import Client, for_itself
from bus.clock import Clock
from bus.credentials import Signer
from schemas.contract import Problem
from schemas.identity import keys
from schemas.identity.keys import CountUses
from schemas.principal import EDGE, Principal

REPORT_S = 5.0
KEYS_MAX = 1000


class Uses:
    """Counts of one edge process that were not reported yet.

    A crash loses some seconds' worth; a report whose answer is lost is counted again.
    """

    def __init__(self, client: Client, clock: Clock, signer: Signer) -> None:
        self._client, self._clock, self._signer = client, clock, signer
        self._counts: dict[str, int] = {}

    def note(self, principal: Principal) -> None:
        """Count one request."""
        if principal.kind == "key" and principal.credential is not None:
            self._counts[principal.credential] = self._counts.get(principal.credential, 0) + 1

    async def report(self) -> None:
        """Tell identity; what could not be told is told the next time."""
        counts, self._counts = self._counts, {}
        try:
            for batch in batches(counts):
                await self._tell(batch)
                for credential in batch:
                    del counts[credential]
        except Problem as failure:
            telemetry.log().warning("uses of keys are reported later", error=str(failure))
        for credential, count in counts.items():
            self._counts[credential] = self._counts.get(credential, 0) + count

    async def _tell(self, counts: dict[str, int]) -> None:
        at = self._clock.now()
        items = tuple(
            keys.Uses(key_id=credential.removeprefix("key/"), count=count, last_at=at)
            for credential, count in counts.items()
        )
        ask = for_itself(EDGE, self._signer, self._clock)
        await self._client.ask(keys.count_uses, CountUses(items=items), ask)


def batches(counts: dict[str, int]) -> list[dict[str, int]]:
    """At most a thousand keys each."""
    found = list(counts.items())
    return [dict(found[at : at + KEYS_MAX]) for at in range(0, len(found), KEYS_MAX)]
