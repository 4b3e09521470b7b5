"""Results by content hash, and files by URL. Never what a result means."""
