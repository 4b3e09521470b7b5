"""HTTP: the Serve application and its page."""
