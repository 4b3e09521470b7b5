"""Engines that embed text: a vector of its meaning. Each file here is one engine."""
