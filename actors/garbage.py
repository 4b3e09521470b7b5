"""Python's collector of cyclic garbage, for processes of hundreds of thousands of objects that stay.

A full collection looks at all of them, and no thread runs meanwhile: 0.25 s once everything is imported.
"""

from __future__ import annotations

import functools
import gc

NUM_NEW = 50_000
"""New objects after which the collector looks at them; by default it is 700, and 14 % of imports' time was its."""


def collect_rarely() -> None:
    """Collect only after many new objects."""
    _, num_young, num_middle = gc.get_threshold()
    gc.set_threshold(NUM_NEW, num_young, num_middle)


@functools.cache
def keep_what_is_loaded() -> None:
    """Let collections leave out all objects that there are now. Only the first call of a process does anything."""
    gc.collect()
    gc.freeze()
