"""XTTS v2 as hosted here, on a tiny random checkpoint: it says nothing, by the real way through the model."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.engine import make_engine
from actors.errors import ConfigError, EngineLoadError, ItemError
from actors.host import EngineHost
from actors.types import Clip, ItemFailure, Plan, PlanRequest, Reference, SynthesiseRequest

pytest.importorskip("TTS")
torch = pytest.importorskip("torch")

from actors.speech.xtts import SAMPLE_HZ, Engine  # noqa: E402
from tests.tiny_speech import make_xtts  # noqa: E402

TEXT = "The harbour was quiet before the ships arrived."


def loaded(folder: Path, **options: Any) -> Engine:
    engine = make_engine("speech", "xtts", {"model": str(folder), **options})
    assert isinstance(engine, Engine)
    engine.load()
    return engine


def reference(seed: int, length_s: float = 2.0, sample_hz: int = 16_000) -> Reference:
    noise = np.random.default_rng(seed).standard_normal(round(length_s * sample_hz))
    return Reference(samples=(0.1 * noise).astype(np.float32), sample_hz=sample_hz, key=f"speaker-{seed}")


def clip_of(engine: Engine, plan: Plan, take: int = 0) -> Clip:
    return engine.synthesise(SynthesiseRequest(plan=plan, duration_s=plan.natural_s, take=take))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_xtts(tmp_path_factory.mktemp("xtts"), speakers=("Ana", "Bob"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    engine = loaded(folder)
    yield engine
    engine.close()


def test_a_reference_is_spoken_in(engine: Engine) -> None:
    plan = engine.plan(PlanRequest(text=TEXT, language="en-GB", reference=reference(1)))
    assert not plan.exact
    assert plan.shortest_s == plan.natural_s == plan.longest_s
    assert plan.natural_s == pytest.approx(len(TEXT) / 15, rel=0.2)
    clip = clip_of(engine, plan)
    assert clip.sample_hz == SAMPLE_HZ
    assert clip.samples.dtype == np.float32
    assert 0 < np.abs(clip.samples).max() <= 1


def test_the_plan_carries_its_reference_to_any_replica(engine: Engine, folder: Path) -> None:
    plan = engine.plan(PlanRequest(text=TEXT, language="en", reference=reference(1)))
    there = loaded(folder)
    np.testing.assert_array_equal(
        clip_of(there, pickle.loads(pickle.dumps(plan))).samples, clip_of(engine, plan).samples
    )


def test_speech_is_a_function_of_the_plan_alone(engine: Engine) -> None:
    plan = engine.plan(PlanRequest(text=TEXT, language="en", reference=reference(1)))
    before = torch.random.get_rng_state()
    first = clip_of(engine, plan)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.randn(7)
    np.testing.assert_array_equal(clip_of(engine, plan).samples, first.samples)


def test_another_take_samples_anew(engine: Engine) -> None:
    plan = engine.plan(PlanRequest(text=TEXT, language="en", reference=reference(1)))
    first, second, again = (clip_of(engine, plan, take).samples.tobytes() for take in (0, 1, 1))
    assert second == again != first


def test_speakers_differ(engine: Engine) -> None:
    one, other = (
        clip_of(engine, engine.plan(PlanRequest(text=TEXT, language="en", reference=reference(seed))))
        for seed in (1, 2)
    )
    length = min(len(one.samples), len(other.samples))
    assert not np.allclose(one.samples[:length], other.samples[:length], atol=1e-3)


def test_conditioning_is_coquis(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = reference(3, sample_hz=22_050)
    # Its own reader needs FFmpeg's libraries.
    monkeypatch.setattr("TTS.tts.models.xtts.load_audio", lambda path, hz: torch.from_numpy(sample.samples)[None])
    config = engine._model.config
    latents, embedding = engine._model.get_conditioning_latents(
        "sample.wav",
        max_ref_length=config.max_ref_len,
        gpt_cond_len=config.gpt_cond_len,
        gpt_cond_chunk_len=config.gpt_cond_chunk_len,
    )
    conditioning = engine._conditioning("clone", sample)
    torch.testing.assert_close(conditioning.latents, latents, rtol=0, atol=1e-5)
    torch.testing.assert_close(conditioning.embedding, embedding, rtol=0, atol=1e-5)


def test_conditioning_is_kept_for_the_speakers_last_used(folder: Path) -> None:
    engine = loaded(folder, max_cached_speakers=2)
    sample = reference(3)
    conditioning = engine._conditioning("clone", sample)
    assert engine._conditioning("clone", sample) is conditioning
    engine._conditioning("clone", reference(4))
    engine._conditioning("clone", sample)
    engine._conditioning("clone", reference(5))
    assert list(engine._speakers) == ["speaker-3", "speaker-5"]


def test_the_checkpoints_own_speakers_need_no_reference(engine: Engine, folder: Path) -> None:
    assert engine.plan(PlanRequest(text=TEXT, language="en")).voice == "Ana"
    plan = engine.plan(PlanRequest(text=TEXT, language="en", voice="Bob"))
    assert len(clip_of(engine, plan).samples) > 0
    assert loaded(folder, voice="Bob").plan(PlanRequest(text=TEXT, language="en")).voice == "Bob"


def test_without_any_voice_an_item_says_what_it_needs(tmp_path: Path) -> None:
    engine = loaded(make_xtts(tmp_path))
    with pytest.raises(ItemError, match="must have a reference"):
        engine.plan(PlanRequest(text=TEXT, language="en"))


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (reference(9, length_s=0.5), "at least 1 s"),
        (Reference(samples=np.zeros(32_000, np.float32), sample_hz=16_000, key="silence"), "silence"),
        (Reference(samples=np.full(32_000, np.nan, np.float32), sample_hz=16_000, key="nan"), "finite"),
        (Reference(samples=np.zeros((2, 32_000), np.float32), sample_hz=16_000, key="stereo"), "mono"),
    ],
)
def test_a_bad_reference_fails_its_item(engine: Engine, bad: Reference, complaint: str) -> None:
    plan = engine.plan(PlanRequest(text=TEXT, language="en", reference=bad))
    good = engine.plan(PlanRequest(text="Yes.", language="en"))
    failure, clip = engine.run([SynthesiseRequest(plan=p, duration_s=p.natural_s) for p in (plan, good)])
    assert isinstance(failure, ItemFailure)
    assert complaint in failure.error.message
    assert isinstance(clip, Clip)


def test_a_long_text_is_spoken_in_pieces(engine: Engine) -> None:
    plan = engine.plan(
        PlanRequest(text=TEXT + " And so it went on, day after day, until the spring." * 12, language="en")
    )
    assert len(plan.chunks) > 1
    assert all(0 < len(chunk.tokens) < 402 for chunk in plan.chunks)


def test_streamed_speech_comes_in_chunks(engine: Engine) -> None:
    chunks = list(engine.stream(PlanRequest(text=TEXT, language="en", reference=reference(1))))
    assert chunks
    assert all(chunk.dtype == np.float32 and chunk.ndim == 1 for chunk in chunks)
    assert sum(map(len, chunks)) > 0


def test_seventeen_languages_are_supported_before_loading() -> None:
    engine = make_engine("speech", "xtts", {})
    assert engine.describe_languages().count(",") == 16
    assert all(engine.supports(tag) for tag in ("en", "pt-BR", "zh", "zh-Hans", "ja", "hi", "cs"))
    assert not engine.supports("sv")


def test_items_fail_alone_in_the_host(folder: Path) -> None:
    host = EngineHost("speech", "xtts", {"model": str(folder)})
    host.load()
    good = PlanRequest(text="Yes.", language="en")
    bad = PlanRequest(text="?!", language="en"), PlanRequest(text="Ja.", language="sv")
    first, *failures, last = host.run([good, *bad, good]).results
    assert isinstance(first, Plan)
    assert isinstance(last, Plan)
    assert all(isinstance(failure, ItemFailure) for failure in failures)
    host.close()


def test_the_terms_must_be_agreed_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TTS_HOME", str(tmp_path))
    monkeypatch.delenv("COQUI_TOS_AGREED", raising=False)
    with pytest.raises(EngineLoadError, match="COQUI_TOS_AGREED=1"):
        make_engine("speech", "xtts", {}).load()


def test_a_model_that_is_not_here_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TTS_HOME", str(tmp_path))
    monkeypatch.setenv("COQUI_TOS_AGREED", "1")
    monkeypatch.setenv("RAYDUB_OFFLINE", "1")
    with pytest.raises(EngineLoadError, match="tts --model_name tts_models/multilingual/multi-dataset/xtts_v2"):
        make_engine("speech", "xtts", {}).load()


def test_bad_checkpoints_are_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks config\.json, model\.pth, vocab\.json"):
        loaded(tmp_path)
    for name in ("config.json", "vocab.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save({"model": {"gpt.nothing": torch.zeros(1)}}, tmp_path / "model.pth")
    with pytest.raises(EngineLoadError, match="must hold an XTTS checkpoint"):
        loaded(tmp_path)


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_carries_code_is_not_run(tmp_path: Path, folder: Path) -> None:
    for name in ("config.json", "vocab.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save({"model": Payload(tmp_path / "ran")}, tmp_path / "model.pth")
    with pytest.raises(EngineLoadError):
        loaded(tmp_path)
    assert not (tmp_path / "ran").exists()
