"""SQL of identity, by topic. Rows of entities are written by recording events, never secrets."""
