"""Containers and codecs: probe, decode, encode, mux. Never the meaning of what is said."""
