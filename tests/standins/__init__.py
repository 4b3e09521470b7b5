"""Stand-in engines and helpers for tests. Engines are named by their module: ``tests.standins.echo``."""
