"""Parts of the MADLAD-400 engine: languages, published models, conversion. Never an engine by itself."""
