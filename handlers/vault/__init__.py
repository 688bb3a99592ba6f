"""The vault: secrets that the platform keeps, sealed."""

from bus.service import Service

service = Service("vault", layer="L01", about="Secrets that the platform keeps, sealed.")
