"""The HTML report of a finished dub. Never computes what it shows."""
