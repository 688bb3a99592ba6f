"""Compatibility: whether two values of the same kind can both be true of the same thing.

Rounded, qualified and partial statements are compatible with the exact one they cover: about
1,200 with 1,240; 19 February with 19 February 2026; 14:05 with 14:05 UTC; more than 3 with 5.
"""

from decimal import Decimal

from handlers.documents.claims import Point
from handlers.documents.quantities import CONVERTED_SHARE, DIMENSION
from handlers.documents.values import Value
from handlers.documents.words import harms_of

COMPARED_KINDS = frozenset(
    "time date weekday duration number percent money version severity name cause negation".split()
)
APPROXIMATE_SHARE = Decimal("0.08")
APPROXIMATE_MINUTES = Decimal(10)
CAUSE_SHARED_MIN = 0.5
CLAUSE_SHARED_MIN = 0.6
CLAUSE_SHARED_KEYS_MIN = 2
ROUNDED_MIN = 1_000_000
ROUNDED_SHARE = Decimal("0.05")
MINUTES_OF_DAY = 1_440
YEAR_LENGTH = 4


def comparable(a: Point, b: Point) -> bool:
    """Whether the two points measure the same sort of thing at all."""
    if a.kind == "negation":
        shared = set(a.keys) & set(b.keys)
        smaller = min(len(a.keys), len(b.keys))
        return len(shared) >= CLAUSE_SHARED_KEYS_MIN and len(shared) / smaller >= CLAUSE_SHARED_MIN
    if a.value is None or b.value is None:
        return False
    if a.kind in {"money", "severity", "percent"}:
        return a.value.unit == b.value.unit
    if a.kind == "name":
        return bool(set(a.value.about) & set(b.value.about))
    return a.kind != "number" or _same_unit(a, b)


def compatible(a: Point, b: Point) -> bool:
    """Whether both may be true; the points must be comparable."""
    if a.value is None or b.value is None:
        return a.negated == b.negated
    if a.kind == "cause":
        left, right = set(a.normal.split()), set(b.normal.split())
        return len(left & right) / min(len(left), len(right)) >= CAUSE_SHARED_MIN
    if a.kind == "name":
        return bool(set(a.normal.split()) & set(b.normal.split()))
    if a.kind == "date":
        return _same_date(a.normal, b.normal)
    if a.value.amount is None or b.value.amount is None:
        return a.normal == b.normal
    return _same_amount(a.kind, a.value, b.value)


def _same_unit(a: Point, b: Point) -> bool:
    """The counted nouns meet, or one side counts without a noun what the other names."""
    if a.value is None or b.value is None:
        return False
    if _is_quantity(a.value) and _is_quantity(b.value):
        return a.value.unit[0] == b.value.unit[0]
    left, right = (set() if _is_quantity(v) else set(v.unit) for v in (a.value, b.value))
    if left & right:
        return True
    if not left or not right:
        shared = (left or set(a.keys)) & (right or set(b.keys))
        return bool(shared) or denies_harm(a, b) or denies_harm(b, a)
    if denies_harm(a, b) or denies_harm(b, a):
        return True
    generic = {"person"} in (left, right)
    return generic and len(set(a.keys) & set(b.keys) - {"person"}) >= 1


def _is_quantity(value: Value) -> bool:
    return value.unit != () and value.unit[0].startswith(DIMENSION)


def denies_harm(none: Point, some: Point) -> bool:
    """`Nobody became ill` against `cases of illness: 16`: few words, but a clear clash."""
    if none.value is None or some.value is None or none.value.amount != 0:
        return False
    if some.value.amount == 0 or _is_quantity(some.value):
        return False
    return bool(harms_of(none.keys) & harms_of(some.keys))


def _same_amount(kind: str, a: Value, b: Value) -> bool:
    left, right = a.amount or Decimal(0), b.amount or Decimal(0)
    if kind == "time":
        return _same_time(a, b)
    if left == right or _covers(a, left, right) or _covers(b, right, left):
        return True
    if kind == "number" and _is_quantity(a) and _is_quantity(b) and a.unit != b.unit:
        return abs(left - right) <= CONVERTED_SHARE * max(abs(left), abs(right))
    if "approx" in (a.qualifier, b.qualifier):
        return abs(left - right) <= APPROXIMATE_SHARE * max(abs(left), abs(right))
    return _rounds_to(left, right) or _rounds_to(right, left)


def _covers(bound: Value, limit: Decimal, amount: Decimal) -> bool:
    below = bound.qualifier == "max" and amount <= limit
    return below or (bound.qualifier == "min" and amount >= limit)


def _rounds_to(rounded: Decimal, exact: Decimal) -> bool:
    """`1.2 million` is 1,204,331 said shortly; small counts are meant exactly."""
    if rounded < ROUNDED_MIN or exact == exact.to_integral_value() // 1000 * 1000:
        return False
    return abs(rounded - exact) <= ROUNDED_SHARE * rounded


def _same_time(a: Value, b: Value) -> bool:
    left, right = a.amount or Decimal(0), b.amount or Decimal(0)
    if a.unit and b.unit:
        left, right = left - int(a.unit[0]), right - int(b.unit[0])
    apart = abs(left - right) % MINUTES_OF_DAY
    loose = "approx" in (a.qualifier, b.qualifier)
    return min(apart, MINUTES_OF_DAY - apart) <= (APPROXIMATE_MINUTES if loose else 0)


def _same_date(a: str, b: str) -> bool:
    """Dates without a year or a day agree with those that have the rest in common."""
    if YEAR_LENGTH in (len(a), len(b)) and (a.startswith("-") or b.startswith("-")):
        return True
    if a.startswith("--") or b.startswith("--"):
        return a[-5:] == b[-5:]
    return a.startswith(b) or b.startswith(a)
