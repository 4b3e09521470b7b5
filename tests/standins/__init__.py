"""Engines for tests of everything around engines, named like any engine from elsewhere: ``standins.echo``."""
