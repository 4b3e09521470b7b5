"""Checks of the machine and its weights for the operator. Never called by a dub."""
