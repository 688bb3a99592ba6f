"""Decisions of identity, by topic. Pure."""
