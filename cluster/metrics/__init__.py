"""Metrics for Prometheus: the kinds of meter, and those of whole jobs. Never decides anything."""
