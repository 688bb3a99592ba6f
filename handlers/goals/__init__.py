"""Goals: plans of tasks, carried out by agents."""

from bus.service import Service

service = Service("goals", layer="L05", about="Goals, their plans and tasks.")
