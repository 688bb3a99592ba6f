"""Tools: the registry, the built-in ones, and every call."""

from bus.service import Service

service = Service(
    "tools", layer="L03", about="Tools, their versions and schemas, and every call of one."
)
