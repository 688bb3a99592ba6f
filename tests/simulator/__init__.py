"""The way of a message, simulated: real code of the bus over servers that are made of dictionaries.

Boundary, relay, followers and workers are those that are shipped. Postgres, NATS, the clock and
the processes are not: one seed decides every delay, order, loss, repetition, outage and death. So a
second shows what a rig of real servers would need a day for, and a seed shows it again.
"""
