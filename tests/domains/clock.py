"""A clock that a test sets: the platform's `now`, not that of deadlines and servers."""

from datetime import UTC, datetime

import pytest

from bus.clock import Clock


class SetClock:
    """Shows what it is set to. Not later than now: jobs of the future are not published."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
        self.set(moment)
        monkeypatch.setattr(Clock, "now", lambda _: self.moment)

    def set(self, moment: str) -> None:
        """Show this."""
        self.moment = datetime.fromisoformat(moment).astimezone(UTC)
        assert self.moment < datetime.now(UTC)
