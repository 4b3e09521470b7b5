"""Claims waiting dubs and runs them. Never HTTP."""
