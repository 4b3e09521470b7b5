from __future__ import annotations

import asyncio
import logging

import pytest

from cluster import logs


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]):
    """What has been logged, after a set-up of its own."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers[:] = []  # pytest's own would be closed
    logs.set_up(logging.INFO)
    yield lambda: capsys.readouterr().err.strip().splitlines()
    root.handlers[:] = before
    root.setLevel(level)


def test_every_record_says_what_it_is_about(lines):
    log = logging.getLogger("cluster.test")
    log.info("before")
    with logs.log_context(job="talk.mp4"), logs.log_context(stage="speech/kokoro", replica="1"):
        log.info("inside n=%d", 3)
    log.info("after")
    before, inside, after = lines()
    assert inside.endswith("job=talk.mp4 stage=speech/kokoro replica=1 inside n=3")
    assert "job=- stage=- replica=-" in before
    assert "job=- stage=- replica=-" in after


def test_libraries_are_heard_from_warning_up(lines):
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("trouble")
    [line] = lines()
    assert line.endswith("trouble")


def test_a_context_of_its_own_forgets_the_job(lines):
    async def record() -> None:
        logging.getLogger("cluster.test").info("served")

    async def main() -> None:
        with logs.log_context(job="talk.mp4"):
            context = logs.new_context(stage="speech/kokoro")
            await asyncio.get_running_loop().create_task(record(), context=context)

    asyncio.run(main())
    [line] = lines()
    assert "job=- stage=speech/kokoro" in line
