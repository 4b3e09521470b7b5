"""In a process of its own: pytest has handlers on the root logger too."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from datetime import datetime
from pathlib import Path

from cluster.logs import fields_of_jobs

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
    assert inside.endswith("job=talk.mp4 stage=speech/kokoro replica=1 trace=- inside n=3")
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


def test_a_record_as_json_is_one_object_in_one_line() -> None:
    plain, failed = lines(
        r"""
        logs.set_up(logging.INFO, logs.LogFormat.JSON)
        log.info("before n=%d", 3)
        with logs.log_context(job="night\n.mp4", stage="speech/kokoro", replica="1", trace="4bf9"):
            try:
                raise ValueError("a\tb")
            except ValueError:
                log.exception("not read")
        """
    )
    record = json.loads(plain)
    assert datetime.fromisoformat(record.pop("time")).tzinfo is not None
    nothing = dict.fromkeys(("job", "stage", "replica", "trace", "exception"))
    assert record == {"level": "INFO", "logger": "cluster.test", "message": "before n=3", **nothing}
    record = json.loads(failed)
    assert (record["job"], record["stage"], record["replica"]) == ("night\n.mp4", "speech/kokoro", "1")
    assert (record["trace"], record["level"], record["message"]) == ("4bf9", "ERROR", "not read")
    assert record["exception"].splitlines()[-1] == "ValueError: a\tb"


def test_the_environment_chooses_the_format() -> None:
    [line] = lines(
        """
        import os
        os.environ["RAYDUB_LOG_FORMAT"] = "json"
        logs.set_up(logging.INFO)
        log.info("after")
        """
    )
    assert json.loads(line)["message"] == "after"


def test_the_records_of_a_batch_name_a_few_of_its_jobs() -> None:
    jobs = [{"job": f"{number}.mp4", "trace": "4bf9"} for number in (1, 2, 1)]
    assert fields_of_jobs(jobs) == {"job": "1.mp4,2.mp4", "trace": "4bf9"}
    assert fields_of_jobs([{"job": str(number)} for number in range(9)]) == {"job": "0,1,2,3,…"}
    assert fields_of_jobs([{}]) == {}


def test_a_host_in_an_actors_process_logs_what_its_batch_is_about() -> None:
    [line] = lines(
        """
        from cluster.pools.host_process import ActorHostProcess
        from tests.standins.echo import Item
        settings = logs.LogSettings(level=logging.INFO, format=logs.LogFormat.JSON)
        fields = {"stage": "translation/echo", "replica": "2"}
        host = ActorHostProcess(settings, fields, "translation", "tests.standins.echo", {"exhaust_above": 1}, 0, 0.0)
        host.run([Item(value=1), Item(value=2)], {"job": "talk.mp4", "trace": "4bf9"})
        """
    )
    record = json.loads(line)
    assert (record["logger"], record["level"]) == ("actors.host", "WARNING")
    assert {name: record[name] for name in ("job", "stage", "replica", "trace")} == {
        "job": "talk.mp4",
        "stage": "translation/echo",
        "replica": "2",
        "trace": "4bf9",
    }
