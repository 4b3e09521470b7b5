"""The steps of the pipeline, one module each. Never decides which step comes next."""
