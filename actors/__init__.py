"""Data types, errors, engines, and the actor that hosts one engine. Never a pipeline, a file format or a server."""
