"""Many inputs in one run: items, ledger, drivers. Never the steps of a single dub."""
