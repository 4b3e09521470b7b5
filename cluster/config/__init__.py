"""The typed configuration and how YAML files become one. Never behaviour."""
