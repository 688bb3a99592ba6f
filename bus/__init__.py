"""The bus: carries operations, commits their effects with their events, and tells the world.

Knows no domain by name. `service.py` is how a domain puts itself on the bus; `database.py` is the
one way to write; `outbox.py` publishes what was committed; `client.py` asks.
"""
