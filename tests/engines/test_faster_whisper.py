from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_samples import spoken

from actors.engine import make_engine
from actors.errors import EngineLoadError
from actors.host import EngineHost
from actors.transcription.faster_whisper import UNDETERMINED, WHISPER_BASE, WHISPER_CODES, num_tokens
from actors.types import ASR_HZ, Samples, TranscribeRequest, Transcript
from actors.weights import joined_folder

SHARED_MEDIA = Path(__file__).parents[3] / "shared" / "media"
SENTENCES = (
    "The harbour was quiet before the ships arrived.",
    "Nobody expected the storm to last three days.",
    "We kept the windows closed and waited.",
    "On Friday the market opened again.",
    "My brother repaired the old wooden boat.",
)


@pytest.fixture(scope="module")
def host() -> Iterator[EngineHost]:
    host = EngineHost("transcription", "faster_whisper", {})
    host.load()
    yield host
    host.close()


def transcribe(host: EngineHost, samples: Samples, language: str | None = "en") -> Transcript:
    (result,) = host.run([TranscribeRequest(samples=samples, language=language)]).results
    assert isinstance(result, Transcript), result
    return result


def sounding(samples: Samples) -> tuple[float, float]:
    """Seconds at which 10 ms means first and last pass 2 % of the loudest."""
    envelope = np.convolve(np.abs(samples), np.ones(160) / 160, "same")
    loud = np.flatnonzero(envelope > 0.02 * envelope.max())
    return loud[0] / ASR_HZ, loud[-1] / ASR_HZ


def told(pause_s: float, noise: float) -> tuple[Samples, list[tuple[float, float]]]:
    """The sentences between pauses, under white noise of that RMS, and when each sounds."""
    pause = np.zeros(round(pause_s * ASR_HZ), np.float32)
    parts, times, at_s = [pause], [], pause_s
    for sentence in SENTENCES:
        speech = spoken(sentence)
        start_s, end_s = sounding(speech)
        times.append((at_s + start_s, at_s + end_s))
        parts += [speech, pause]
        at_s += (len(speech) + len(pause)) / ASR_HZ
    samples = np.concatenate(parts)
    return samples + (noise * np.random.default_rng(0).standard_normal(len(samples))).astype(np.float32), times


@pytest.mark.parametrize(("pause_s", "noise"), [(0.5, 1e-3), (1.2, 1e-3), (1.2, 1e-2)])
def test_segments_start_and_end_where_the_sentences_do(host: EngineHost, pause_s: float, noise: float) -> None:
    samples, times = told(pause_s, noise)
    segments = transcribe(host, samples).segments
    assert len(segments) == len(SENTENCES)
    for segment, sentence, (start_s, end_s) in zip(segments, SENTENCES, times, strict=True):
        assert segment.words[0].text.strip().casefold() == sentence.split()[0].casefold()
        assert segment.start_s == pytest.approx(start_s, abs=0.15)
        assert segment.end_s == pytest.approx(end_s, abs=0.3)


def test_what_is_said_is_heard(host: EngineHost) -> None:
    heard = " ".join(segment.text for segment in transcribe(host, told(0.5, 1e-3)[0]).segments)
    for sentence in SENTENCES[1:]:  # whisper spells the first one's "harbour" the American way
        assert sentence.rstrip(".") in heard


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.float32),
        np.zeros(5 * ASR_HZ, np.float32),
        (0.01 * np.random.default_rng(0).standard_normal(8 * ASR_HZ)).astype(np.float32),
        (0.1 * np.sin(2 * np.pi * 220 * np.arange(8 * ASR_HZ) / ASR_HZ)).astype(np.float32),
    ],
    ids=["nothing", "silence", "noise", "a tone"],
)
def test_where_nobody_speaks_nothing_is_heard(host: EngineHost, samples: Samples) -> None:
    detected, given = transcribe(host, samples, None), transcribe(host, samples, "pt-BR")
    assert detected.segments == given.segments == ()
    assert (detected.language, detected.language_probability) == (UNDETERMINED, 0.0)
    assert (given.language, given.language_probability) == ("pt-BR", 1.0)


def test_a_language_is_detected_with_its_probability(host: EngineHost) -> None:
    transcript = transcribe(host, told(0.5, 1e-3)[0], None)
    assert transcript.language == "en"
    assert 0.5 < transcript.language_probability <= 1.0


def test_portuguese_is_detected_in_a_recording(host: EngineHost) -> None:
    path = SHARED_MEDIA / "speech_pt_10s.wav"
    if not path.is_file():
        pytest.skip(f"no {path.name} here")
    decode_audio = pytest.importorskip("faster_whisper.audio").decode_audio
    transcript = transcribe(host, decode_audio(str(path)), None)
    assert transcript.language == "pt"
    assert "modelos acústicos" in " ".join(segment.text for segment in transcript.segments)


def test_a_given_tag_comes_back_with_its_region(host: EngineHost) -> None:
    assert transcribe(host, spoken(SENTENCES[1]), "en-GB").language == "en-GB"


def test_the_list_of_languages_is_the_librarys() -> None:
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    assert {*WHISPER_CODES, "yue"} == set(_LANGUAGE_CODES)


@pytest.mark.parametrize(
    ("tag", "supported"),
    [("pt-BR", True), ("zh-TW", True), ("zh-Hant", True), ("jv", True), ("nb", True), ("fil", True), ("yue", False)],
)
def test_base_hears_its_languages_whatever_the_region(tag: str, supported: bool) -> None:
    assert make_engine("transcription", "faster_whisper", {}).supports(tag) == supported


def model_folder(path: Path, num_vocabulary: int) -> str:
    path.mkdir()
    (path / "vocabulary.txt").write_text("".join(f"token{i}\n" for i in range(num_vocabulary)))
    return str(path)


@pytest.mark.parametrize(
    ("num_vocabulary", "hears"), [(51_864, {"en"}), (51_865, {"en", "pt"}), (51_866, {"en", "pt", "yue"})]
)
def test_a_folders_languages_are_told_by_its_vocabulary(tmp_path: Path, num_vocabulary: int, hears: set[str]) -> None:
    engine = make_engine(
        "transcription", "faster_whisper", {"model": model_folder(tmp_path / "whisper", num_vocabulary)}
    )
    assert {tag for tag in ("en", "pt", "yue") if engine.supports(tag)} == hears


def test_the_base_model_is_multilingual() -> None:
    assert num_tokens(joined_folder(WHISPER_BASE, "whisper-base")) == 51_865


def test_a_local_folder_is_loaded_like_the_bundled_model() -> None:
    host = EngineHost("transcription", "faster_whisper", {"model": str(joined_folder(WHISPER_BASE, "whisper-base"))})
    host.load()
    assert transcribe(host, spoken(SENTENCES[1])).segments[0].text == SENTENCES[1]
    host.close()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError, match=r"no model\.bin in"):
        make_engine("transcription", "faster_whisper", {"model": str(tmp_path)}).load()


def test_a_model_that_is_none_is_a_load_error(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"not a model")
    with pytest.raises(EngineLoadError, match="must hold a CTranslate2 whisper"):
        make_engine("transcription", "faster_whisper", {"model": str(tmp_path)}).load()


def test_cost_is_seconds_of_audio() -> None:
    request = TranscribeRequest(samples=np.zeros(3 * ASR_HZ, np.float32), language=None)
    assert make_engine("transcription", "faster_whisper", {}).cost(request) == 3.0
