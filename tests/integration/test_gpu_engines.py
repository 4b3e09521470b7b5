"""Whole dubs with the engines of ``raydub[gpu]``, on a CPU: real offline weights where there are any, or tiny ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soxr

from actors.engine import make_engine
from actors.types import Clip, Plan, PlanRequest, SynthesiseRequest
from cluster.batch.runner import run
from cluster.config.load import load_config, profile_names
from cluster.flags import Flag
from cluster.manifest import Manifest
from cluster.pipeline import Job
from tests import tiny, tiny_speech
from tests.integration.dubbing import listen, plain, spoken_text, word_error_rate
from tests.media import AudioSpec, VideoSpec, make_media, speech

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(module) is None for module in ("torch", "transformers", "TTS", "torchcodec")),
    reason="raydub[gpu] is not installed",
)

PORTUGUESE = "O porto estava calmo antes de os navios chegarem. Deixamos as janelas fechadas."
ENGLISH = "The harbour was quiet before the ships arrived. We kept the windows closed."
HZ = 48_000


def film(path: Path, mono: np.ndarray) -> Path:
    stereo = np.repeat(mono[:, None], 2, axis=1).astype(np.float32)
    return make_media(path, audio=[AudioSpec(samples=stereo)], video=[VideoSpec(duration_s=len(mono) / HZ)])


@pytest.fixture(scope="module")
def portuguese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 6 s, and the silence behind it that a translation may need."""
    engine = make_engine("speech", "kokoro", {})
    engine.load()
    [plan] = engine.run([PlanRequest(text=PORTUGUESE, language="pt")])
    assert isinstance(plan, Plan)
    [clip] = engine.run([SynthesiseRequest(plan=plan, duration_s=plan.natural_s)])
    assert isinstance(clip, Clip)
    engine.close()
    samples = soxr.resample(clip.samples, clip.sample_hz, HZ)
    return film(tmp_path_factory.mktemp("media") / "portuguese.mp4", np.pad(samples, (HZ // 4, HZ)))


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mono = speech(ENGLISH, HZ)[:, 0]
    return film(tmp_path_factory.mktemp("media") / "english.mp4", np.pad(mono, (HZ // 4, HZ)))


@pytest.fixture(scope="module")
def copying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An NLLB that translates every text into itself."""
    return tiny.nllb(tmp_path_factory.mktemp("nllb") / "copying", "copying")


async def dub(
    path: Path, out: Path, source: str, target: str, *settings: str, config: str = "offline", profile: str | None = None
) -> Manifest:
    """With one store for all of them: what was heard in one need not be heard again in the next."""
    shared = ("ray.mode=inline", "quality.check=none", f"store.url={path.parents[1] / 'store'}")
    resolved = load_config(config, [*shared, *settings], profile)
    job = Job(source=path, targets=(target,), source_language=source, audio_track=None, out=out / path.stem)
    [outcome] = await run([job], resolved, lambda progress: None, lambda outcome: None)
    assert outcome.manifest is not None, outcome.error
    assert [each.language for each in outcome.manifest.dubs] == [target]
    assert outcome.manifest.dubs[0].utterances
    return outcome.manifest


async def test_portuguese_becomes_english_in_coquis_voice(portuguese: Path, tmp_path: Path) -> None:
    manifest = await dub(portuguese, tmp_path, "pt", "en", "speech.engine=coqui")
    assert {line.voice for line in manifest.dubs[0].utterances} == {"joe"}
    heard = listen(tmp_path / "portuguese" / "portuguese.mp4", "en")
    assert heard.language == "en"
    assert word_error_rate(spoken_text(manifest, "en"), heard.text) <= 0.15


@pytest.mark.parametrize("engine", ["nllb", "nllb_ct2"])
async def test_nllb_translates_in_the_pipeline(engine: str, english: Path, copying: Path, tmp_path: Path) -> None:
    manifest = await dub(
        english,
        tmp_path,
        "en",
        "pt",
        f"translation.engine={engine}",
        f"translation.options.model={copying}",
        "translation.num_candidates=3",
        "speech.engine=tests.standins.speaks",
    )
    said = {segment.id: plain(segment.text) for segment in manifest.segments}
    for line in manifest.dubs[0].utterances:
        assert plain(line.candidates[0].text) == said[line.segment_id]
        assert line.candidates[0].score is not None
        # Words that were only copied are said, as there are no better ones, and flagged.
        assert {Flag.OFF_LANGUAGE, Flag.TRANSLATION_DOUBTFUL} & set(line.flags)


async def test_a_translator_that_babbles_costs_its_lines_and_not_the_video(english: Path, tmp_path: Path) -> None:
    model = tiny.nllb(tmp_path / "random", "random")
    settings = (
        "translation.engine=nllb_ct2",
        f"translation.options.model={model}",
        "speech.engine=tests.standins.speaks",
    )
    manifest = await dub(english, tmp_path, "en", "pt", *settings)
    assert manifest.status == "degraded"
    for line in manifest.dubs[0].utterances:
        assert line.text or Flag.TRANSLATION_FAILED in line.flags


async def test_xtts_speaks_at_its_own_length_and_is_stretched(portuguese: Path, tmp_path: Path) -> None:
    model = tiny_speech.make_xtts(tmp_path / "xtts", speakers=("Ana", "Rui"))
    settings = ("speech.engine=xtts", f"speech.options.model={model}", "speech.voices={en: Rui}")
    manifest = await dub(portuguese, tmp_path, "pt", "en", *settings)
    for line in manifest.dubs[0].utterances:
        assert line.voice == "Rui"
        assert line.end_s > line.start_s


async def test_an_xtts_without_voices_keeps_the_original(portuguese: Path, tmp_path: Path) -> None:
    model = tiny_speech.make_xtts(tmp_path / "xtts")
    manifest = await dub(portuguese, tmp_path, "pt", "en", "speech.engine=xtts", f"speech.options.model={model}")
    for line in manifest.dubs[0].utterances:
        assert Flag.SPEECH_FAILED in line.flags
        assert line.text == ""


@pytest.mark.parametrize("profile", profile_names())
async def test_the_clusters_configuration_in_every_profile(
    profile: str, portuguese: Path, copying: Path, tmp_path: Path
) -> None:
    """With models that are at hand for those of the hub, and no GPU."""
    manifest = await dub(
        portuguese,
        tmp_path,
        "pt",
        "en",
        "transcription.options.model=base",
        f"translation.options.model={copying}",
        "speech.by_language.en.options.model=joe",
        *(
            f"{stage}.pool.num_gpus=0"
            for stage in ("transcription", "translation", "embedding", "speech.by_language.en")
        ),
        config="gpu",
        profile=profile,
    )
    assert manifest.config["profile"] == profile
    for line in manifest.dubs[0].utterances:
        assert line.text
        assert line.voice == "joe"
    # An embedding that is not at hand costs no line.
    names = {pool.name.partition("-")[0] for pool in manifest.timings.pools if not pool.name.startswith("embedding")}
    assert len(names) == 3
