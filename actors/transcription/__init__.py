"""Engines that turn speech into timed text. Each file here is one engine."""
