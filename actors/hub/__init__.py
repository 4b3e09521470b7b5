"""Models by name: each reference becomes a path on this node. Never loads a model."""

from actors.hub.checksums import CHECKSUMS_FILE, fingerprint
from actors.hub.download import OFFLINE_SWITCHES, is_offline
from actors.hub.models import fetch, find, identity, resolve, verify
from actors.hub.references import known_models

__all__ = [
    "CHECKSUMS_FILE",
    "OFFLINE_SWITCHES",
    "fetch",
    "find",
    "fingerprint",
    "identity",
    "is_offline",
    "known_models",
    "resolve",
    "verify",
]
