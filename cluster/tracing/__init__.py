"""Traces: records of what ran when, and the files and receivers that take them. Never decides anything."""
