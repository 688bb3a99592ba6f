"""Human: what waits for people."""

from bus.service import Service

service = Service("human", layer="L10", about="Questions and approvals that wait for people.")
