"""Shares the words of a translation among the timed segments it covers. Never audio or models."""
