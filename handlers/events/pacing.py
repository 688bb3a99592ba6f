"""How fast a replay goes. Pure: the clock is given.

Each event is due some time after the one before it: as long as it took then, divided by the
speed, and never less than the rate allows. Who was held up may catch up a second, not more.
"""

from collections.abc import Sequence
from datetime import datetime

CATCH_UP_S = 1.0


class Pace:
    """When events are due; remembers when the last one was.

    Args:
        speed: How many times as fast as it happened.
        per_second: The most events a second. Without both there is never a pause.
        at: When the last event was due, in Unix seconds; None before the first.
        recorded: When it had been recorded.
    """

    def __init__(
        self,
        speed: float | None,
        per_second: float | None,
        at: float | None = None,
        recorded: datetime | None = None,
    ) -> None:
        self._speed, self._per_second = speed, per_second
        self.at, self.recorded = at, recorded

    @property
    def free(self) -> bool:
        """Whether there is never a pause."""
        return self._speed is None and self._per_second is None

    def take(self, recorded: Sequence[datetime], now: float) -> tuple[int, float]:
        """How many of the next events are due now, and how many seconds until one is."""
        if self.free:
            return len(recorded), 0.0
        for count, moment in enumerate(recorded):
            due = self._due(moment, now)
            if due > now:
                return count, due - now
            self.at = max(due, now - CATCH_UP_S)
            self.recorded = max(moment, self.recorded or moment)
        return len(recorded), 0.0

    def _due(self, moment: datetime, now: float) -> float:
        if self.at is None or self.recorded is None:
            return now
        took = max(0.0, (moment - self.recorded).total_seconds())
        after = took / self._speed if self._speed else 0.0
        apart = 1 / self._per_second if self._per_second else 0.0
        return self.at + max(after, apart)
