"""Supervision: jobs behind requests."""

from bus.service import Service

service = Service("supervision", layer="L08", about="Work that goes on behind requests.")
