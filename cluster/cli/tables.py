"""Tables and sizes as commands print them."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table


def wide_console() -> Console:
    """A console that does not fold names at 80 columns when its output is a file or pipe."""
    return Console(width=None if sys.stdout.isatty() else 160)


def plain_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, highlight=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
