"""A real talk: real voices, real encoders, and a real listener."""

import re
from pathlib import Path

import av
import jiwer
import numpy as np
import pytest

from actors.engine import make_engine
from actors.types import ASR_HZ, Samples, TranscribeRequest
from cluster.demo.slides import HEIGHT, WIDTH
from cluster.demo.talk import Script, make_talk

DURATION_S = 15.0


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "new" / "talk.mp4"
    make_talk(path, DURATION_S)
    return path


def script_of(talk: Path) -> Script:
    return Script.model_validate_json(talk.with_suffix(".json").read_text(encoding="utf-8"))


def heard(talk: Path) -> Samples:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=ASR_HZ)
    with av.open(str(talk)) as container:
        return np.concatenate(
            [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        )


def words(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower()).split())


def test_streams_and_duration(talk: Path) -> None:
    with av.open(str(talk)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.width, video.height, video.average_rate) == (WIDTH, HEIGHT, 25)
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 48_000, 2)
        assert video.frames == round(DURATION_S * 25)
        for stream in (video, audio):
            assert float(stream.duration * stream.time_base) == pytest.approx(DURATION_S, abs=0.03)


def test_whisper_hears_the_script(talk: Path) -> None:
    script = script_of(talk)
    listener = make_engine("transcription", "faster_whisper", {})
    listener.load()
    (transcript,) = listener.run([TranscribeRequest(samples=heard(talk), language="en")])
    listener.close()
    said = words(" ".join(sentence.text for sentence in script.sentences))
    assert jiwer.wer(said, words(" ".join(segment.text for segment in transcript.segments))) <= 0.15


def test_speech_is_where_the_script_says(talk: Path) -> None:
    samples, script = heard(talk), script_of(talk)
    speaking = np.zeros(len(samples), dtype=bool)
    for sentence in script.sentences:
        speaking[round(sentence.start_s * ASR_HZ) : round(sentence.end_s * ASR_HZ)] = True
    inside, outside = (float(np.sqrt(np.mean(np.square(samples[where])))) for where in (speaking, ~speaking))
    assert 20 * np.log10(inside / outside) > 10.0
    assert outside > 0.0  # the music that a dub must keep


def test_the_same_talk_is_made_again(talk: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.mp4"
    make_talk(again, DURATION_S)
    assert script_of(again) == script_of(talk)
    np.testing.assert_array_equal(heard(again), heard(talk))
