"""Dubs, events, leases, webhooks and keys in the database. Never media."""
