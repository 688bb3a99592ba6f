"""Integration: dead letters, shown and settled."""

from bus.service import Service

service = Service(
    "integration",
    layer="L11",
    about="Messages that could not be handled, and what becomes of them.",
)
