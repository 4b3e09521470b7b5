"""The words in which an input's failure is told."""

from __future__ import annotations

import errno

import pytest

from cluster.batch.runner import _describe


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/out/.raydub-1/talk.mp4"), "/out/.raydub-1/talk.mp4"),
        (OSError(errno.ENOSPC, "No space left on device"), "TMPDIR"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/home/a"), "/home/a"),
    ],
)
def test_a_full_disk_is_no_defect_of_the_program(error: OSError, where: str) -> None:
    told = _describe(error)
    assert "is full" in told
    assert where in told
    assert "report" not in told
    assert "Errno" not in told


def test_an_unforeseen_error_is_to_be_reported() -> None:
    assert "please report it" in _describe(ValueError("odd"))
