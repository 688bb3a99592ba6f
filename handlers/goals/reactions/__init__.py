"""How goals are planned, carried out and judged."""
