"""Engines that turn text into a vector of its meaning. Each file here is one engine."""
