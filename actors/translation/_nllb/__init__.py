"""Parts of the NLLB engines: languages, published models, conversion. Never an engine by itself."""
