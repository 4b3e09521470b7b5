"""Common parts of the benches' plots: small SVG files that can be read on a light page and on a dark one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

INK = "#6e7781"
"""On white and on a dark page alike."""
COLOURS = ("#3b82f6", "#e8772e", "#2da44e", "#a371f7", "#d64550", "#8c8c3a")
MAX_POINTS = 300
"""Points of a curve; more cannot be told apart."""

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text as text: a tenth of the size
    "svg.hashsalt": "raydub",  # the same file from the same numbers
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "path.simplify_threshold": 1.0,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


@contextmanager
def drawn(path: Path, rows: int = 1, columns: int = 1, height: float = 3.2) -> Iterator[Any]:
    """The axes to draw in; written to ``path`` in the end."""
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(rows, columns, figsize=(8, height * rows), layout="constrained")
        yield axes
        figure.savefig(path, transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    # Matplotlib ends lines with blanks.
    path.write_text("".join(line.rstrip() + "\n" for line in path.read_text().splitlines()))


def thinned(values: Sequence[float]) -> Sequence[float]:
    """Every n-th, and the last."""
    step = -(-len(values) // MAX_POINTS)
    return values if step <= 1 else [*values[:-1:step], values[-1]]
