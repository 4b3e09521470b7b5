"""Engines that turn text of one language into text of another. Each file here is one engine."""
