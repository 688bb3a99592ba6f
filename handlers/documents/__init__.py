"""Documents: files and artifacts, cut into sections that can be found and compared."""

from bus.service import Service

service = Service(
    "documents", layer="L01", about="Documents, their sections, search and comparison."
)
