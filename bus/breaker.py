"""Circuit breaker: an operation that keeps failing is not asked again for a while.

closed --5 failures in 30 s--> open --30 s later--> half open --one probe--> closed or open

Only "nobody answered" and "no answer in time" count; an answer, even an error, is a sign of life.
"""

from collections import deque
from collections.abc import Callable

FAILURES_MAX = 5
WINDOW_S = 30.0
OPEN_S = 30.0


class Breaker:
    """State of one operation; `clock` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)
        self._opened_at: float | None = None
        self._probing = False

    def allows(self) -> bool:
        """Whether a request may go out now; an open breaker lets one probe through."""
        if self._opened_at is None:
            return True
        if self._probing or self._clock() - self._opened_at < OPEN_S:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """An answer came."""
        if self._opened_at is not None or self._failures:
            self._failures.clear()
            self._opened_at, self._probing = None, False

    def failed(self) -> None:
        """No answer came."""
        now = self._clock()
        self._failures.append(now)
        full = len(self._failures) == FAILURES_MAX and now - self._failures[0] <= WINDOW_S
        if full or self._probing:
            self._opened_at, self._probing = now, False

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        if self._opened_at is None:
            return "closed"
        return "half-open" if self._probing else "open"
