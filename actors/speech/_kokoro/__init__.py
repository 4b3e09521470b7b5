"""Parts shared by the kokoro engine and hibari, which was distilled from it. Never an engine by itself."""
