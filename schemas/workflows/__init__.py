"""Workflows: documents that say what is done in which order, and their durable runs."""
