"""Parts of the coqui and xtts engines: checkpoints, text, VITS. Never an engine by itself."""
