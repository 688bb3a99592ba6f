"""Credentials: how programs of others come onto the bus, with the rights of an API key."""

from bus.service import Service

service = Service("credentials", layer="L09", about="Who may come onto the bus from outside.")
