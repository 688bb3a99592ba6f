"""Alembic revisions whose bodies are plain SQL."""
