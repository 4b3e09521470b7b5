"""Chooses how long a line takes and which candidate fits its slot. Never synthesises."""
