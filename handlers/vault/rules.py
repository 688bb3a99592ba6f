"""What becomes of a kept secret."""

from datetime import datetime

from schemas.problems import NotFound
from schemas.vault import StoredSecret


def stored(
    before: StoredSecret | None, name: str, *, by: str, id: str, at: datetime
) -> StoredSecret:
    """The secret with a value given now; one that was deleted comes back with its history."""
    if before is None:
        return StoredSecret(
            id=id, version=1, name=name, created_at=at, updated_at=at, updated_by=by,
            deleted_at=None,
        )  # fmt: skip
    changed = {"version": before.version + 1, "updated_at": at, "updated_by": by}
    return before.model_copy(update=changed | {"deleted_at": None})


def deleted(before: StoredSecret | None, name: str, *, by: str, at: datetime) -> StoredSecret:
    """The secret without a value.

    Raises:
        NotFound: There is none, or it was deleted before.
    """
    if before is None or before.deleted_at is not None:
        raise NotFound(name=name)
    changed = {"version": before.version + 1, "updated_at": at, "updated_by": by}
    return before.model_copy(update=changed | {"deleted_at": at})
