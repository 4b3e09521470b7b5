"""What a batch needs of the cluster at one time, and when that can never be met."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.batch.room import needs_of_jobs, room_problem
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.pipeline import Job
from cluster.pools.capacity import ClusterView, Growth
from cluster.pools.needs import Need, Node


def job(*targets: str, **more: object) -> Job:
    given = {"source": Path("talk.mp4"), "source_language": "en", "audio_track": None, "out": Path("out")} | more
    return Job(targets=targets, **given)  # type: ignore[arg-type]


def names(jobs: list[Job], config: Config) -> list[str]:
    return sorted(need.name for need in needs_of_jobs(jobs, config))


def test_a_job_needs_one_replica_of_each_pool_that_it_uses() -> None:
    config = load_config("offline", ["quality.check=none", "speakers.count=1"])
    every = ["embedding/use_multilingual", "speech/kokoro", "transcription/faster_whisper", "translation/bergamot"]
    assert names([job("pt")], config) == every
    assert names([job("pt", subtitles=Path("talk.vtt"))], config) == every[:2] + every[3:]
    own = {"pt": Path("talk.pt.vtt")}
    assert names([job("pt", target_subtitles=own)], config) == every[1:3]
    apart = load_config("offline", ["quality.check=none"])
    assert names([job("pt")], apart) == ["diarization/campplus", *every]
    short = load_config(
        "offline",
        ["quality.check=none", "speakers.count=1", "alignment.strategy=length", "translation.num_candidates=1"],
    )
    assert names([job("pt")], short) == every[1:]
    voice = load_config("offline", ["quality.check=none", "speech.voices.en=af_heart"])
    assert "speech/kokoro" in names([job("en")], voice), "the engine of the voice that is named speaks"
    # What is checked is heard, compared and translated back.
    assert (
        names([job("pt", target_subtitles=own)], load_config("offline", ["quality.check=all", "speakers.count=1"]))
        == every
    )


def test_of_several_jobs_the_one_that_needs_most_counts() -> None:
    config = load_config("offline", ["speech.by_language.en.pool.num_cpus=3", "speech.by_language.pt.pool.num_cpus=2"])
    speech = [need.cpus for need in needs_of_jobs([job("pt"), job("en")], config) if need.task == "speech"]
    assert speech == [3.0]
    speech = [need.cpus for need in needs_of_jobs([job("pt", "en"), job("en")], config) if need.task == "speech"]
    assert sorted(speech) == [2.0, 3.0]
    larger = job("pt", settings={"translation": {"pool": {"num_cpus": 7}}})
    assert max(need.cpus for need in needs_of_jobs([job("pt"), larger], config)) == 7.0


def view(*cpus: float, growth: Growth = Growth.FIXED, addable: object = ()) -> ClusterView:
    nodes = tuple(Node(cpus=each) for each in cpus)
    return ClusterView(growth=growth, nodes=nodes, addable=addable)  # type: ignore[arg-type]


NEEDS = [Need(name="driver", cpus=1), Need(name="speech/x", cpus=3)]


@pytest.mark.parametrize(
    ("found", "is_refused"),
    [
        (view(2, 2), True),
        (view(1, 3), False),
        (view(2, 2, growth=Growth.POSSIBLE, addable=None), False),  # nobody knows what may be added
        (view(1, growth=Growth.POSSIBLE, addable=((Node(cpus=2), 9),)), True),  # no node that may be added is enough
        (view(1, growth=Growth.COMING, addable=((Node(cpus=4), 1),)), False),
        (view(growth=Growth.POSSIBLE, addable=((Node(cpus=3), 1),)), True),
        (view(growth=Growth.POSSIBLE, addable=((Node(cpus=3), 2),)), False),
    ],
)
def test_what_no_node_there_or_to_come_can_hold_is_refused(found: ClusterView, is_refused: bool) -> None:
    problem = room_problem(NEEDS, found)
    assert (problem is not None) is is_refused
    assert problem is None or "the cluster must have room for the batch" in problem
