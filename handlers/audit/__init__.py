"""Audit: what was asked and decided, and the proof that nobody changed it afterwards."""

from bus.service import Service

service = Service("audit", layer="L01", about="Who asked for what, and what was decided.")
