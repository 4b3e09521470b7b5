"""In a process of its own: pytest has handlers on the root logger too."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]

PREAMBLE = """
import asyncio, logging
from cluster import logs
logs.set_up(logging.INFO)
log = logging.getLogger("cluster.test")
"""


def lines(code: str) -> list[str]:
    command = [sys.executable, "-c", PREAMBLE + textwrap.dedent(code)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr.strip().splitlines()


def test_every_record_says_what_it_is_about() -> None:
    before, inside, after = lines(
        """
        log.info("before")
        with logs.log_context(job="talk.mp4"), logs.log_context(stage="speech/kokoro", replica="1"):
            log.info("inside n=%d", 3)
        log.info("after")
        """
    )
    assert inside.endswith("job=talk.mp4 stage=speech/kokoro replica=1 inside n=3")
    assert "job=- stage=- replica=-" in before
    assert "job=- stage=- replica=-" in after


def test_a_name_with_a_line_feed_breaks_no_record() -> None:
    first, *traceback = lines(
        r"""
        with logs.log_context(job="night\nERROR talk.mp4"):
            try:
                raise ValueError("a\tb")
            except ValueError:
                log.exception("not read path=%s", "night\n.mp4")
        """
    )
    assert r"job=night\x0aERROR talk.mp4" in first
    assert first.endswith(r"not read path=night\x0a.mp4")
    assert traceback[0] == "Traceback (most recent call last):"
    assert len(traceback) > 2


def test_libraries_are_heard_from_warning_up() -> None:
    [line] = lines(
        """
        logging.getLogger("some.library").info("chatter")
        logging.getLogger("some.library").warning("trouble")
        """
    )
    assert line.endswith("trouble")


def test_a_context_of_its_own_forgets_the_job() -> None:
    [line] = lines(
        """
        async def record():
            log.info("served")

        async def main():
            with logs.log_context(job="talk.mp4"):
                context = logs.new_context(stage="speech/kokoro")
                await asyncio.get_running_loop().create_task(record(), context=context)

        asyncio.run(main())
        """
    )
    assert "job=- stage=speech/kokoro" in line
