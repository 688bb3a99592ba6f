"""Time and ids, passed in so that tests own them."""

import time
from datetime import UTC, datetime

from uuid_utils import uuid7


class Clock:
    """The real clock. `now` is UTC; ids are UUIDv7, so they sort by the time they were made."""

    def now(self) -> datetime:
        """The current time, with its zone."""
        return datetime.now(UTC)

    def unix_ms(self) -> int:
        """Milliseconds since 1970, as deadlines are written on the bus."""
        return time.time_ns() // 1_000_000

    def new_id(self) -> str:
        """A fresh UUIDv7."""
        return str(uuid7())
