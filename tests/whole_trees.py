"""Keeps threads that parse Python at the same time from failing each other (python/cpython#106905).

CPython before 3.11.8 and 3.12.2 counts the depth of every tree that is being built in one number. Building a tree may
start a garbage collection, whose finalizers let other threads run; if one of them parses too (numpy reads an array's
header, an exception is printed), the count is off and whichever is parsing gets a SystemError. When that is pytest
which formats a failure, the whole run ends, and names no failed test.
"""

from __future__ import annotations

import ast
import functools
import gc
import os
import sys
import threading
from typing import Any

IS_FIXED = sys.version_info >= (3, 12, 2) or (3, 11, 8) <= sys.version_info < (3, 12)


def parse_one_at_a_time() -> None:
    """Replace ``ast.parse`` by one that no other thread and no garbage collection interrupts."""
    if IS_FIXED:
        return
    parse, lock = ast.parse, threading.RLock()

    @functools.wraps(parse)
    def uninterrupted(*arguments: Any, **named: Any) -> Any:
        with lock:
            was_enabled = gc.isenabled()
            gc.disable()
            try:
                return parse(*arguments, **named)
            finally:
                if was_enabled:
                    gc.enable()

    # A process forked while another thread parses must not find the lock taken for ever.
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    ast.parse = uninterrupted
