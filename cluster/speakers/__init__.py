"""Tells speakers apart: pieces of speech, groups of alike voices, turns. Nothing here loads a model."""
