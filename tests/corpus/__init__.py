"""A corpus of odd media, made from a few seconds of the demo's talk, and what a dub must make of each."""
