"""Keyset pages: a cursor is the sort key of the last row shown, so inserts neither skip nor repeat.

The cursor is opaque to clients and carries a hash of the request's filters: used with other
filters it is refused.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

import orjson

from schemas.contract import Listing, Page, Schema
from schemas.problems import Malformed

T = TypeVar("T", bound=Schema)

PAGE_BYTES_MAX = 512 * 1024
"""What a page of large things may take: a message holds 1 MiB."""

NEWEST_FIRST: dict[str, type] = {"created_at": datetime, "id": str}
"""The usual sort key: its columns, in order, with their types."""


def fingerprint(request: Listing) -> str:
    """A short hash of what is being listed."""
    filters = request.model_dump_json(exclude={"cursor", "limit"})
    return hashlib.sha256(filters.encode()).hexdigest()[:12]


def after(request: Listing, kinds: Sequence[type]) -> tuple[Any, ...]:
    """The sort key to continue behind: as many values as `kinds`, all None on the first page.

    Raises:
        Malformed: The cursor is not one of ours, or belongs to another list.
    """
    if request.cursor is None:
        return (None,) * len(kinds)
    try:
        padded = request.cursor + "=" * (-len(request.cursor) % 4)
        [mark, *values] = orjson.loads(base64.urlsafe_b64decode(padded))
        key = tuple(read(kind, value) for kind, value in zip(kinds, values, strict=True))
    except (binascii.Error, ValueError, TypeError):
        raise Malformed("The cursor is not one that a list has answered.") from None
    if mark != fingerprint(request):
        raise Malformed("The cursor belongs to a list with other filters.")
    return key


def read(kind: type, value: Any) -> Any:
    """A value of the sort key."""
    return datetime.fromisoformat(value) if kind is datetime else kind(value)


def page(request: Listing, item: type[T], rows: Sequence[Any], sort: Sequence[str]) -> Page[T]:
    """A page of `rows`; ask the database for one row more than the limit."""
    shown = [dict(row) for row in rows[: request.limit]]
    cursor = None
    if len(rows) > request.limit:
        last = shown[-1]
        text = orjson.dumps([fingerprint(request), *(last[name] for name in sort)], default=str)
        cursor = base64.urlsafe_b64encode(text).decode().rstrip("=")
    items = tuple(item.model_validate(row) for row in shown)
    return Page[item](items=items, next=cursor)  # type: ignore[valid-type]


def fitting(request: Listing, whole: Page[T], sort: Sequence[str]) -> Page[T]:
    """As much of a page as one message carries, at least one thing; the next begins behind it."""
    room, kept = PAGE_BYTES_MAX, 0
    for item in whole.items:
        room -= len(item.model_dump_json())
        if room < 0 and kept:
            break
        kept += 1
    if kept == len(whole.items):
        return whole
    shorter = request.model_copy(update={"limit": kept})
    return page(shorter, type(whole.items[0]), [dict(item) for item in whole.items], sort)
