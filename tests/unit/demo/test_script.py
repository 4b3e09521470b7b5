import itertools
from pathlib import Path

import numpy as np
import pytest

from actors.errors import ConfigError
from actors.types import Clip
from cluster.audio.limiter import RATE_HZ
from cluster.demo.script import CHAPTERS, OPENING, SPEAKERS, Chapter
from cluster.demo.slides import HEIGHT, MARGIN, PAPER, RING_RADII, WIDTH, Slide
from cluster.demo.talk import LOOP_S, PAUSES_S, Voices, lines, make_talk, music, perform

SENTENCES = [text for chapter in (OPENING, *CHAPTERS) for text in chapter.sentences]


class Beeps(Voices):
    """Speaks 60 ms a character, so that times can be checked without a model."""

    def speak(self, speaker: str, text: str) -> tuple[Clip, float]:
        return Clip(samples=np.zeros(len(text) * 1440, dtype=np.float32), sample_hz=24_000), 0.0


def test_the_script_is_long_enough_and_says_nothing_twice() -> None:
    assert len(SENTENCES) == len(set(SENTENCES)) >= 70
    assert all(len(chapter.sentences) % len(SPEAKERS) == 0 for chapter in CHAPTERS)


def test_chapters_come_again_in_another_order_and_never_twice_in_a_row() -> None:
    spoken = list(itertools.islice(lines(seed=3), 20 * len(SENTENCES)))
    assert [line.text for line in spoken[: len(SENTENCES)]] == SENTENCES
    titles = [line.chapter.title for line in spoken if line.text == line.chapter.sentences[0]]
    assert all(a != b for a, b in itertools.pairwise(titles))
    rounds = [tuple(titles[at : at + len(CHAPTERS)]) for at in range(1, len(titles) - len(CHAPTERS), len(CHAPTERS))]
    assert len(set(rounds)) > 1
    assert all(len(set(one)) == len(CHAPTERS) for one in rounds)


@pytest.mark.parametrize("duration_s", [10.0, 60.0, 3600.0])
def test_sentences_follow_each_other_and_end_in_time(duration_s: float) -> None:
    with Beeps() as voices:
        sentences = [sentence for _, sentence, _ in perform(duration_s, 0, voices)]
    assert all(PAUSES_S[0] - 0.002 <= b.start_s - a.end_s <= 1.202 for a, b in itertools.pairwise(sentences))
    assert all(a.speaker != b.speaker for a, b in itertools.pairwise(sentences))
    assert duration_s - 12 < sentences[-1].end_s <= duration_s - 0.5


@pytest.mark.parametrize("num_samples", [1, 70 * RATE_HZ + 7])
def test_music_is_as_long_as_asked_and_has_no_seam(num_samples: int) -> None:
    blocks = list(music(num_samples))
    assert sum(map(len, blocks)) == num_samples
    assert all(len(block) <= RATE_HZ for block in blocks)
    if num_samples > LOOP_S * RATE_HZ:
        audio = np.concatenate(blocks)
        seam = np.abs(audio[LOOP_S * RATE_HZ] - audio[LOOP_S * RATE_HZ - 1]).max()
        assert seam <= np.abs(np.diff(audio, axis=0)).max()
        assert -42 < 20 * np.log10(np.sqrt(np.mean(np.square(audio)))) < -36


@pytest.mark.parametrize("chapter", [OPENING, *CHAPTERS], ids=lambda chapter: chapter.title)
def test_slides_keep_their_margins(chapter: Chapter) -> None:
    pixels = np.asarray(Slide.of(chapter, SPEAKERS[1], 1.0).draw())
    blank = np.all(pixels == PAPER, axis=2)
    clear_of_rings = HEIGHT - max(RING_RADII) - 8
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert blank[:, : MARGIN - 2].all()
    assert blank[:clear_of_rings, WIDTH - MARGIN :].all()
    assert blank[HEIGHT - 140 : HEIGHT - 105, : WIDTH - max(RING_RADII) - 8].all()  # between bullets and names
    assert not blank[:, MARGIN : WIDTH - MARGIN].all()


def test_too_short_a_talk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at least 10 s; found 3\.0"):
        make_talk(tmp_path / "talk.mp4", 3.0)
    assert not list(tmp_path.iterdir())
