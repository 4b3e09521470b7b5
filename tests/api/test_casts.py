"""Casts over HTTP: a series keeps its speakers, for each key by itself and on both databases."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.errors import CapacityError, ConfigError
from cluster.casting.cast import voice_model
from cluster.casting.cast_file import CastFile, KnownSpeaker, merged, read_cast, remember
from cluster.config.load import load_config
from cluster.speakers.prints import Print
from serve.dispatch.cast_copy import with_cast
from serve.errors import NotFoundError
from serve.jobs.api_keys import hash_key
from serve.jobs.casts import Casts
from serve.jobs.database import Database
from serve.settings import KeyLimits
from tests.api.server import STANDINS, Running, finished, running
from tests.api.test_dubs import create
from tests.media import AudioSpec, make_media, speech

ONE, TWO = "first key", "second key"
KEYS = (
    f"serve.auth.keys=[{{name: one, sha256: {hash_key(ONE)}, limits: {{max_casts: 2}}}}, "
    f"{{name: two, sha256: {hash_key(TWO)}}}]"
)
TELLS_APART = "diarization.engine=tests.standins.tells_apart"
MODEL = voice_model(load_config("base", [TELLS_APART]))
ANA, RUI, EVA = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
LIKE_RUI = (0.0, 0.999, 0.0447)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("data"), *STANDINS, TELLS_APART, KEYS, config="base") as service:
        yield service


@pytest.fixture
def one(service: Running) -> Iterator[httpx.Client]:
    """A client of the first key, which has no casts yet."""
    with service.client(ONE) as client:
        for cast in client.get("/v1/casts").json()["casts"]:
            assert client.delete(f"/v1/casts/{cast['name']}").status_code == 204
        yield client


@pytest.fixture
def two(service: Running) -> Iterator[httpx.Client]:
    with service.client(TWO) as client:
        yield client


def a_cast(model: str = MODEL, **prints: Print) -> CastFile:
    made = (KnownSpeaker(name=name, print=own, voices=(), num_files=1) for name, own in prints.items())
    return CastFile(model=model, speakers=tuple(made))


def put(client: httpx.Client, name: str, cast: CastFile) -> httpx.Response:
    return client.put(f"/v1/casts/{name}", json=cast.model_dump())


def refused(client: httpx.Client, **data: str) -> httpx.Response:
    return client.post("/v1/dubs", data={"to": "pt", "source": "en", **data}, files={"file": ("a.mka", b"no media")})


def speakers_of(client: httpx.Client, dub_id: object) -> set[str]:
    return {each["speaker"] for each in client.get(f"/v1/dubs/{dub_id}/manifest").json()["segments"]}


def dubbed(client: httpx.Client, path: Path, **data: str) -> dict[str, Any]:
    dub = finished(client, create(client, path, **data)["id"])
    assert dub["state"] == "done", dub["error"]
    return dub


def test_a_series_knows_its_speakers_again(one: httpx.Client, talk: Path, tmp_path: Path) -> None:
    first = dubbed(one, talk, cast="show")
    assert "S1" in speakers_of(one, first["id"])
    cast = one.get("/v1/casts/show").json()
    names = [speaker["name"] for speaker in cast["speakers"]]
    assert names[0] == "C1"
    [listed] = one.get("/v1/casts").json()["casts"]
    assert (listed["name"], listed["num_speakers"]) == ("show", len(names))
    (tmp_path / "show.json").write_text(one.get("/v1/casts/show").text, encoding="utf-8")
    assert read_cast(tmp_path / "show.json", MODEL) == CastFile.model_validate(cast)

    cast["speakers"][0]["name"] = "Ana"
    assert one.put("/v1/casts/show", json=cast).json()["num_speakers"] == len(names)
    second = dubbed(one, talk, cast="show")
    assert "Ana" in speakers_of(one, second["id"]) <= {"Ana", *names[1:]}
    again = one.get("/v1/casts/show").json()["speakers"]
    assert [speaker["name"] for speaker in again] == ["Ana", *names[1:]]
    assert [speaker["num_files"] for speaker in again] == [2] * len(names)
    assert [speaker["print"] for speaker in again] == [speaker["print"] for speaker in cast["speakers"]]


def test_speakers_of_dubs_at_a_time_are_kept_once(two: httpx.Client, talk: Path, tmp_path: Path) -> None:
    other = make_media(tmp_path / "other.mka", audio=[AudioSpec(samples=speech("Good morning, everyone."))])
    made = [create(two, path, cast="both")["id"] for path in (talk, other, talk)]
    assert {finished(two, dub_id)["state"] for dub_id in made} == {"done"}
    for path in (talk, other, talk):
        dubbed(two, path, cast="alone")
    together, alone = (two.get(f"/v1/casts/{name}").json()["speakers"] for name in ("both", "alone"))
    assert sorted(each["num_files"] for each in together) == sorted(each["num_files"] for each in alone)
    assert sorted(each["print"] for each in together) == sorted(each["print"] for each in alone)


def test_a_cast_belongs_to_its_key(one: httpx.Client, two: httpx.Client) -> None:
    assert put(one, "own", a_cast(Ana=ANA)).status_code == 200
    for answer in (two.get("/v1/casts/own"), two.delete("/v1/casts/own")):
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert put(two, "own", a_cast(Rui=RUI, Eva=EVA)).status_code == 200
    assert "own" in {cast["name"] for cast in two.get("/v1/casts").json()["casts"]}
    assert two.delete("/v1/casts/own").status_code == 204
    assert one.get("/v1/casts/own").json() == a_cast(Ana=ANA).model_dump(mode="json")


def test_a_key_has_as_many_casts_as_it_may(one: httpx.Client) -> None:
    for name in ("a", "b"):
        assert put(one, name, a_cast()).status_code == 200
    for answer in (put(one, "c", a_cast()), refused(one, cast="c")):
        assert answer.status_code == 429
        assert "a key may have 2 casts" in answer.json()["detail"]
        assert "retry-after" in answer.headers
    assert put(one, "a", a_cast(Ana=ANA)).json()["num_speakers"] == 1
    assert one.delete("/v1/casts/b").status_code == 204
    assert put(one, "c", a_cast()).status_code == 200


def test_what_cannot_be_is_refused_before_the_dub(one: httpx.Client) -> None:
    assert put(one, "other", a_cast("another model", Ana=ANA)).status_code == 200
    answer = refused(one, cast="other")
    assert answer.status_code == 422
    assert f"the cast other must be of the voice model {MODEL}; found another model" in answer.json()["detail"]
    for name in (".hidden", "a/b", "a" * 65, "two words", "a new line\n"):
        assert refused(one, cast=name).status_code == 422
    assert one.get("/v1/casts/.hidden").status_code == 422
    twice = {**a_cast(Ana=ANA).model_dump(), "speakers": [a_cast(Ana=ANA).speakers[0].model_dump()] * 2}
    for wrong in ([], {}, {"model": MODEL, "more": 1}, twice):
        assert one.put("/v1/casts/wrong", json=wrong).status_code == 422
    raw = a_cast(Ana=ANA).model_dump_json().replace("1.0", "NaN").encode()
    headers = {"content-type": "application/json"}
    assert one.put("/v1/casts/wrong", content=raw, headers=headers).status_code == 422
    half = a_cast(Ana=ANA).model_dump_json().replace("Ana", "\\ud83d").encode()
    assert one.put("/v1/casts/wrong", content=half, headers=headers).status_code == 422
    assert [cast["name"] for cast in one.get("/v1/casts").json()["casts"]] == ["other"]


# --- the database


def casts_of(database: Database, limits: KeyLimits | None = None) -> Casts:
    return Casts(database=database, limits_of=lambda owner: limits or KeyLimits())


async def test_casts_merged_at_the_same_time_lose_and_double_nobody(database: Database) -> None:
    casts, owner, before = casts_of(database), "merging", a_cast(Ana=ANA)
    await casts.put(owner, "show", before)
    copies = [a_cast(Ana=ANA, C1=own) for own in (RUI, EVA, LIKE_RUI)]
    assert merged(before, before, copies[0], 0.75) == copies[0]
    await asyncio.gather(*(casts.merge(owner, "show", before, copy, 0.75) for copy in copies))
    kept = await casts.get(owner, "show")
    assert [speaker.name for speaker in kept.speakers] == ["Ana", "C1", "C2"]
    assert sorted(speaker.num_files for speaker in kept.speakers) == [1, 1, 2]
    assert (await casts.every(owner))[0].num_speakers == 3
    # The first dubs of a series have no cast to begin with.
    fresh = [a_cast(C1=own) for own in (RUI, EVA, LIKE_RUI)]
    await asyncio.gather(*(casts.merge(owner, "new", a_cast(), copy, 0.75) for copy in fresh))
    assert len((await casts.get(owner, "new")).speakers) == 2


async def test_casts_are_kept_as_given_and_within_limits(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    casts, owner = casts_of(database, KeyLimits(max_casts=3)), "limited"
    odd = a_cast(**{"\0 é 🎭": (0.1, -0.98765, 1e-17)})
    await casts.put(owner, "odd", odd)
    assert await casts.get(owner, "odd") == odd
    puts = (casts.put(owner, f"cast-{number}", odd) for number in range(6))
    made = await asyncio.gather(*puts, return_exceptions=True)
    assert [type(each) for each in made].count(CapacityError) == 4
    with pytest.raises(CapacityError, match="3 casts"):
        await casts.merge(owner, "one more", a_cast(), odd, 0.75)
    with pytest.raises(CapacityError, match="3 casts"):
        await casts.check(owner, "one more", MODEL)
    await casts.check(owner, "odd", MODEL)
    with pytest.raises(ConfigError, match="the cast odd must be of the voice model another"):
        await casts.check(owner, "odd", "another")
    monkeypatch.setattr("cluster.casting.cast_file.MAX_BYTES", 100)
    with pytest.raises(ConfigError, match="at most 100 bytes"):
        await casts.put(owner, "odd", odd)
    assert await casts.find("another owner", "odd") is None


async def test_a_cast_that_was_deleted_while_its_dub_ran_stays_deleted(database: Database) -> None:
    casts, owner, before = casts_of(database), "deleting", a_cast(Ana=ANA)
    await casts.put(owner, "show", before)
    await casts.delete(owner, "show")
    await casts.merge(owner, "show", before, a_cast(Ana=ANA, Rui=RUI), 0.75)
    for gone in (casts.get, casts.delete):
        with pytest.raises(NotFoundError, match="found none with the name show"):
            await gone(owner, "show")


async def test_a_dub_does_not_fail_for_its_cast(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    casts, config = casts_of(database), load_config("base", [TELLS_APART])
    dub = functools.partial(with_cast, config, casts, "failing")
    await casts.put("failing", "show", a_cast(Ana=ANA))
    async with dub("show") as settled:
        path = Path(settled.speakers.cast or "")
        assert (settled.speakers.required, read_cast(path, MODEL)) == (True, a_cast(Ana=ANA))
        remember(path, MODEL, {"S2": RUI}, {"S2": ["pm_alex"]}, 0.75)
        await casts.put("failing", "show", a_cast("another", Ana=ANA))
    assert not await asyncio.to_thread(path.exists)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "cast not updated" in record.getMessage()
    assert "must be of the voice model tests.standins.tells_apart" in record.getMessage()
    with pytest.raises(ConfigError, match="the cast show must be of the voice model"):
        async with dub("show"):
            pass
    async with dub(None) as settled:
        assert settled is config


async def test_a_dub_that_failed_leaves_the_cast_as_it_was(database: Database) -> None:
    casts, config = casts_of(database), load_config("base", [TELLS_APART])

    async def fail() -> None:
        async with with_cast(config, casts, "failed", "show") as settled:
            remember(Path(settled.speakers.cast or ""), MODEL, {"S1": RUI}, {}, 0.75)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await casts.every("failed") == []
