"""Models by name, as the command line takes them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from actors.engine import make_engine
from actors.errors import EngineLoadError
from cluster.admin import models
from cluster.casting.voices import named_stages
from cluster.config.load import load_config

COQUI = "tts_models/pt/cv/vits"


@pytest.fixture(autouse=True)
def empty_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TTS_HOME", str(tmp_path / "coqui"))
    monkeypatch.setenv("RAYDUB_OFFLINE", "1")


def coqui_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "coqui" / "tts" / COQUI.replace("/", "--")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("ref", ["a/b/c", "wheel:no_such_package/x", "./nowhere", "/nowhere/at/all", "~/.no/such"])
def test_a_name_that_is_none_is_refused(ref: str) -> None:
    for call in (models.find, models.fetch):
        with pytest.raises(EngineLoadError) as caught:
            call(ref)
        assert ref in caught.value.message


@pytest.mark.parametrize("ref", ["owner/name", "owner/name@v1", "facebook/nllb-200-distilled-600M", COQUI])
def test_what_is_not_here_is_not_found(ref: str) -> None:
    assert models.find(ref) is None
    [problem] = models.verify(ref)
    assert problem.endswith(f"run: raydub models fetch {ref}")


def test_a_path_is_where_it_is(tmp_path: Path) -> None:
    assert models.find(str(tmp_path)) == tmp_path


def test_a_coqui_model_is_noted_when_fetched_and_held_against_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = coqui_folder(tmp_path)
    monkeypatch.setattr("actors.speech._coqui.checkpoint.fetch", lambda ref: folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert models.fetch(COQUI) == folder
    assert models.find(COQUI) == folder
    assert hashlib.sha256(b"{}").hexdigest() in (folder / "SHA256SUMS").read_text()
    assert models.verify(COQUI) == []
    (folder / "config.json").write_text("{ }")
    [problem] = models.verify(COQUI)
    assert "config.json must have sha256" in problem


def test_coqui_models_need_coqui_to_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineLoadError, match=r"pip install 'raydub\[gpu\]'"):
        models.fetch(COQUI)


def test_the_known_are_those_of_the_shipped_configurations(tmp_path: Path) -> None:
    coqui_folder(tmp_path)
    known = {model.ref.partition("@")[0]: model for model in models.list_models()}
    assert {ref for ref, model in known.items() if model.path is not None} == {COQUI}
    for profile in (None, "quality", "balanced", "speed"):
        for stage in named_stages(load_config("gpu", profile=profile)):
            assert stage.settings.options.get("model", COQUI) in known


def test_one_engine_for_all_languages_is_one_stage() -> None:
    names = [stage.name for stage in named_stages(load_config("offline", ["speech.engine=piper"]))]
    assert names == ["diarization", "transcription", "translation", "embedding", "speech"]


def test_each_model_of_a_replica_of_many_voices_is_looked_for(tmp_path: Path) -> None:
    coqui_folder(tmp_path)
    here, missing = {"en": "joe", "pt": COQUI}, {"pt": COQUI, "de": "tts_models/de/thorsten/vits"}
    models.check_weights(make_engine("speech", "coqui_voices", {"models": here}))
    with pytest.raises(EngineLoadError, match="fetch tts_models/de/thorsten/vits"):
        models.check_weights(make_engine("speech", "coqui_voices", {"models": missing}))
