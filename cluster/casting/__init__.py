"""The voices of a configuration: who can speak which language, with which engine. Nothing here loads a model."""
