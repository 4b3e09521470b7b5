"""Parts of the engine campplus: its features, its weights and its network."""
