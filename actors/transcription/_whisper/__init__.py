"""Parts of the faster_whisper engine: batches of windows, word times. Never an engine by itself."""
