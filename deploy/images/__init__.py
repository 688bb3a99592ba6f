"""Containers: one image for all roles, and what they must share before the first start."""
