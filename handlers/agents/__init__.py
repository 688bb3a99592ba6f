"""Agents: who can do what, and the runs in which they do it, one recorded step at a time."""

from bus.service import Service

service = Service("agents", layer="L02", about="Agents, their runs and every step of them.")
