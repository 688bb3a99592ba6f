"""Identity: who a credential stands for."""

from bus.service import Service

service = Service("identity", layer="L09", about="Who a credential stands for.")
