"""Workflows: durable runs of documents that say what is done in which order."""

from bus.service import Service

service = Service("workflows", layer="L12", about="Workflows, their runs and every step of them.")
