"""Ten checks of everything that needs a GPU, for a machine that can be had for minutes: see gpu_acceptance.py."""
