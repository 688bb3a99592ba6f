"""Events: the log, asked and proved."""

from bus.service import Service

service = Service(
    "events", layer="L01", about="The log of everything that happened, and proofs about it."
)
