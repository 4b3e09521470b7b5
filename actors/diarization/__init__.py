"""Engines that tell voices apart: one file each."""
