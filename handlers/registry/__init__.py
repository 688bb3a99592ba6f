"""Registry: which services answer on the bus now."""

from bus.service import Service

service = Service("registry", layer="L12", about="Services on the bus, found by words.")
