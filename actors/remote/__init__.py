"""Engines whose model is a server elsewhere: the options they share, and their requests over HTTP."""

from actors.remote.engine import RemoteConfig, RemoteEngine
from actors.remote.http import Answer, Body, RemoteApi, TransientError, parsed

__all__ = ["Answer", "Body", "RemoteApi", "RemoteConfig", "RemoteEngine", "TransientError", "parsed"]
