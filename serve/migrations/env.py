"""Run by Alembic: migrates the connection it is handed."""

from __future__ import annotations

from alembic import context

from serve.jobs.tables import Base

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("migrations are run by the service when it starts, on its own connection")
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
