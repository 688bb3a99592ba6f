"""The edge: HTTP, WebSocket, documents and pages for people and programs that do not speak NATS.

It authenticates, limits, reads requests into typed commands and asks the bus; it never touches the
database and knows no domain's code.
"""
