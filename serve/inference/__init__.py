"""Single model calls for the HTTP routes. Never a whole dub."""
