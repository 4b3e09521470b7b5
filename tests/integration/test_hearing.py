"""What whisper hears of made speech: the language or its doubt, every sentence, quiet sound, two languages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from actors.engine import make_engine
from actors.types import ASR_HZ, Samples
from bench.bench_coverage import measure
from bench.bench_languages import EnginePool, listen
from cluster.media.decode import decode_audio
from cluster.media.probe import probe
from tests.engines.engine_samples import spoken

SHARED_MEDIA = Path(__file__).parents[3] / "shared" / "media"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def pool() -> Iterator[EnginePool]:
    engine = make_engine("transcription", "faster_whisper", {"model": "base"})
    engine.load()
    yield EnginePool(engine)
    engine.close()


def made_speech(language: str, file: Path) -> Samples:
    """Made in a process of its own, as espeak keeps its output mode for good."""
    code = (
        "import sys, numpy; from bench.bench_languages import recording; "
        "numpy.save(sys.argv[2], recording(sys.argv[1], ''))"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, language, str(file)], check=True, timeout=300, cwd=root)
    samples: Samples = np.load(file)
    return samples


@pytest.mark.parametrize("language", ["de", "it", "ru"])
async def test_the_language_of_made_speech_is_found_or_doubted(pool: EnginePool, tmp_path: Path, language: str) -> None:
    listener = await listen(made_speech(language, tmp_path / "speech.npy"), "en", pool)
    assert listener.language == language or listener.notes.is_uncertain
    assert len(listener.notes.guesses) == 3


async def test_speech_45_db_down_is_heard_as_at_its_own_level(pool: EnginePool) -> None:
    pause = np.zeros(ASR_HZ, np.float32)
    parts = [spoken("The library opens at nine on weekdays."), spoken("Please return the books by Thursday.")]
    loud: Samples = np.concatenate([pause, parts[0], pause, parts[1], pause])
    # As a 16-bit file holds it.
    quiet = (np.round(loud * 10 ** (-45 / 20) * 32768) / 32768).astype(np.float32)
    heard = [await listen(samples, "pt", pool) for samples in (loud, quiet)]
    assert [listener.language for listener in heard] == ["en", "en"]
    assert all(not listener.notes.not_transcribed for listener in heard)


def test_no_sentence_is_lost_whatever_the_threads_and_the_batch() -> None:
    rows = measure(30.0, [(1, 1), (2, 4)])
    assert [row.num_lost for row in rows] == [0, 0]
    assert all(row.num_heard + row.num_flagged == row.num_sentences > 3 for row in rows)
    assert all(row.differs < 0.1 for row in rows)


@pytest.mark.skipif(not SHARED_MEDIA.is_dir(), reason="no real clips beside the checkout")
async def test_quiet_english_is_taken_for_english_in_doubt(pool: EnginePool) -> None:
    info = probe(SHARED_MEDIA / "quiet_en_10s.mp4")
    samples = np.concatenate(list(decode_audio(info, info.audio[0], hz=ASR_HZ, channels="mono")))
    # Nothing but English can be dubbed by the base install.
    listener = await listen(samples, "pt", pool, engine="bergamot")
    assert listener.language == "en"
    assert listener.notes.is_uncertain
