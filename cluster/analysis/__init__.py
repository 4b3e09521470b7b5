"""Conclusions from finished dubs and from metrics: targets met or missed, and the bottleneck. Never dubs anything."""
