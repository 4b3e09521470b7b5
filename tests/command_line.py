"""The command line in this process: for what would be the same in one of its own, which takes a second to start."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from cluster.cli.main import main


def raydub_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["raydub", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    status: object = 0
    with mock.patch.object(sys, "argv", command), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            status = ended.code
    assert isinstance(status, int)
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())
