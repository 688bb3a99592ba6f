"""How runs are carried on."""
