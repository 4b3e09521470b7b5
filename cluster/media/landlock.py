"""Restricts this thread, and those it starts, to some files: Linux's Landlock, which needs no privileges.

https://docs.kernel.org/userspace-api/landlock.html. Nothing may be executed, no TCP port be reached, and only what is
named be read or written. Kernels without it restrict nothing.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System calls, of the same number on every architecture that CPython and FFmpeg are built for."""
ASK_VERSION, PATH_BENEATH, NO_NEW_PRIVILEGES = 1, 1, 38

WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG = (1 << at for at in (1, 2, 3, 4, 5, 7, 8))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
FIRST_VERSION = (1 << 13) - 1
"""All rights to files that the first version of Landlock knows."""
READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
OF_A_FILE = WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
ALL_TCP = 0b11
OTHERS = 0b11
"""Signals to processes outside, and their abstract sockets."""

SYSTEM = ("/proc/self", "/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom")
"""Read while a program runs: its own state, and libraries that are loaded late."""


def restrict(readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """Restrict this thread to these files and folders, besides Python's own. False if this kernel cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    version = library.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ASK_VERSION)
    if version < 1:
        return False
    rights = FIRST_VERSION | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    rights |= IOCTL_DEV if version >= 5 else 0
    attributes = struct.pack("=QQQ", rights, ALL_TCP, OTHERS)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = library.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    try:
        for path in (*map(Path, SYSTEM), *_of_python(), *readable):
            _allow(library, rules, path, READ & rights)
        for path in writable:
            _allow(library, rules, path, WRITE & rights)
        library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return bool(library.syscall(RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


def _of_python() -> list[Path]:
    """Folders of modules, some of which are imported when they are first needed."""
    return [Path(entry) for entry in {*sys.path, sys.base_prefix, sys.prefix} if entry]


def _allow(library: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    """Add a rule for a path; one that is not there needs none."""
    with suppress(OSError):
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(found).st_mode):
                rights &= OF_A_FILE
            library.syscall(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", rights, found), 0)
        finally:
            os.close(found)
