"""Engines that turn text into speech, in two steps: plan, then synthesise. Each file here is one engine."""
