"""Decides which Ray cluster to join. Apart from ray_session.py, so that asking does not import Ray."""

from __future__ import annotations

import os

from cluster.config.schema import RayConfig


def cluster_address(settings: RayConfig) -> str | None:
    """Address of the cluster to join; None to start Ray on this machine."""
    address = settings.address or os.environ.get("RAY_ADDRESS") or None
    if settings.mode == "cluster":
        return address or "auto"
    return address if settings.mode == "auto" else None
