"""Many VITS in one replica: tiny checkpoints, loaded when they are asked for and given up in turn."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.engine import make_engine
from actors.errors import ConfigError, ItemError
from actors.types import Clip, ItemFailure, Plan, PlanRequest, SynthesiseRequest
from cluster.admin.models import models_of
from cluster.casting.voices import configured_stage, named_stages, spoken_languages, voices_for
from cluster.config.load import load_config

pytest.importorskip("TTS")
pytest.importorskip("torch")

from actors.speech.coqui_voices import Engine
from tests.tiny_speech import make_vits

TAGS = ("en", "pt", "de")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("voices")
    return {tag: str(make_vits(folder / tag, language=tag, speakers=("ana", "bob"))) for tag in TAGS}


def made(models: dict[str, str], **options: Any) -> Engine:
    engine = make_engine("speech", "coqui_voices", {"models": models, **options})
    assert isinstance(engine, Engine)
    return engine


def ask(language: str, voice: str | None = None) -> PlanRequest:
    return PlanRequest(text="A test of it.", language=language, voice=voice)


def planned(engine: Any, *requests: PlanRequest) -> list[Plan]:
    results = engine.run(requests)
    assert all(isinstance(result, Plan) for result in results), results
    return list(results)


def spoken(engine: Any, *plans: Plan) -> list[Clip]:
    results = engine.run([SynthesiseRequest(plan=plan, duration_s=plan.natural_s) for plan in plans])
    assert all(isinstance(result, Clip) for result in results), results
    return list(results)


@pytest.mark.parametrize("max_loaded", [1, 2, 3])
def test_each_language_is_spoken_as_by_an_engine_of_its_own(models: dict[str, str], max_loaded: int) -> None:
    engine = made(models, max_loaded=max_loaded)
    engine.load()
    requests = [ask(tag, voice) for tag, voice in itertools.product(("pt-BR", "en", "de"), ("bob", "ana"))]
    clips = spoken(engine, *planned(engine, *requests))
    assert len(engine._loaded) == max_loaded
    engine.close()
    for request, clip in zip(requests, clips, strict=True):
        alone = make_engine("speech", "coqui", {"model": models[request.language[:2]]})
        alone.load()
        [expected] = spoken(alone, *planned(alone, request))
        np.testing.assert_allclose(clip.samples, expected.samples, rtol=0, atol=1e-4)


def test_the_model_that_was_not_used_for_longest_is_given_up(models: dict[str, str]) -> None:
    engine = made(models, max_loaded=2)
    engine.load()
    for tag, left in (("pt", ("en", "pt")), ("en", ("pt", "en")), ("de", ("en", "de")), ("en", ("de", "en"))):
        planned(engine, ask(tag))
        assert list(engine._loaded) == [models[each] for each in left]
    given_up = engine._engines[models["pt"]]
    assert given_up._synthesis is None
    engine.close()
    assert not engine._loaded


def test_a_batch_loads_each_model_once(models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(models, max_loaded=1)
    engine.load()
    loads: list[str] = []
    for model, inner in engine._engines.items():
        load = inner.load
        monkeypatch.setattr(inner, "load", lambda load=load, model=model: (loads.append(model), load()))
    planned(engine, *(ask(tag) for tag in ("pt", "en", "pt", "en", "pt")))
    assert loads == [models["pt"]]
    engine.close()


def test_a_model_that_does_not_load_fails_its_own_lines(models: dict[str, str], tmp_path: Path) -> None:
    broken = make_vits(tmp_path, language="pt")
    (broken / "model.pth").write_bytes(b"no model")
    engine = made({**models, "pt": str(broken)}, max_loaded=3)
    engine.load()
    failure, good = engine.run([ask("pt"), ask("en")])
    assert isinstance(failure, ItemFailure)
    assert type(failure.error) is ItemError
    assert str(broken) in failure.error.message
    assert isinstance(good, Plan)
    engine.close()


def test_a_replica_starts_with_a_model_that_its_node_has(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTS_HOME", str(tmp_path))
    monkeypatch.setenv("RAYDUB_OFFLINE", "1")
    engine = made({"es": "tts_models/es/css10/vits", **models})
    assert engine.weights_id() is None  # of one model nothing is known
    engine.load()
    assert list(engine._loaded) == [models["en"]]
    engine.close()


def test_what_is_spoken_is_known_before_loading(models: dict[str, str]) -> None:
    engine = made(models)
    assert engine.describe_languages() == "en, pt, de"
    assert engine.supports("pt-BR")
    assert not engine.supports("it")
    assert [(voice.name, voice.languages) for voice in engine.voices[:3]] == [
        ("ana", ("en",)),
        ("bob", ("en",)),
        ("ana", ("pt",)),
    ]


def test_weights_are_those_of_all_languages(models: dict[str, str]) -> None:
    assert made(models).identity() == made(dict(reversed(models.items())), max_loaded=1).identity()
    swapped = {**models, "en": models["pt"], "pt": models["en"]}
    assert made(models).identity() != made(swapped).identity()


@pytest.mark.parametrize("models", [{}, {"no such language": "joe"}, {"en": "joe", "eng": "joe"}])
def test_models_must_have_languages(models: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"speech\.options\.models"):
        made(models)


def test_a_configuration_with_one_engine_for_all_languages_has_each_ones_voices(models: dict[str, str]) -> None:
    config = load_config(assignments=["speech.engine=coqui_voices", f"speech.options.models={json.dumps(models)}"])
    assert spoken_languages(config) == TAGS
    assert [voice.id for voice in voices_for(config, "pt-BR")] == ["ana", "bob"]
    assert configured_stage(config, "pt") == configured_stage(config, "de")  # one pool
    [stage] = [stage for stage in named_stages(config) if stage.task == "speech"]
    assert models_of(stage) == tuple(models.values())
