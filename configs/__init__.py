"""Configurations that come with raydub, by name."""
