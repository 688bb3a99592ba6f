"""Models: one door to inference."""

from bus.service import Service

service = Service(
    "models", layer="L04", about="Text and vectors from models; every call is counted."
)
