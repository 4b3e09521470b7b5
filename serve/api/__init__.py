"""HTTP routes and middleware. Never a database statement or a model call."""
