"""Draws the demo talk's slides, and writes video and audio into one MP4."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cluster.audio.limiter import RATE_HZ, Block
from cluster.demo.script import CHAPTERS, SPEAKERS, TALK_TITLE, Chapter
from cluster.media.frames import audio_frame

Colour: TypeAlias = tuple[int, int, int]

WIDTH, HEIGHT = 1280, 720
FRAMES_PER_S = 25
GOP_FRAMES = 50
"""A key frame every 2 s: the picture can be cut there without encoding it again."""
X264_OPTIONS = {"preset": "ultrafast", "tune": "stillimage"}
AUDIO_BITS_PER_S = 128_000

MARGIN = 96
TEXT_WIDTH = WIDTH - 2 * MARGIN
SMOOTHING = 4
PAPER, INK, GREY = (250, 247, 240), (38, 42, 54), (140, 140, 146)
ACCENTS = ((38, 110, 160), (176, 92, 46), (70, 126, 74), (180, 130, 30), (110, 80, 150), (170, 64, 84))
RING_RADII = (150, 210, 270, 330)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slide:
    """The content of the screen: equal slides look the same."""

    title: str
    bullets: tuple[str, ...]
    chapter_index: int | None
    """None for the opening."""
    speaker: str | None

    @classmethod
    def of(cls, chapter: Chapter, speaker: str | None, progress: float) -> Slide:
        """The slide at a point of a chapter: its bullets appear one after another."""
        num_shown = math.ceil(progress * len(chapter.bullets))
        return cls(
            title=chapter.title,
            bullets=chapter.bullets[:num_shown],
            chapter_index=CHAPTERS.index(chapter) if chapter in CHAPTERS else None,
            speaker=speaker,
        )

    def draw(self) -> Image.Image:
        image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
        pen = ImageDraw.Draw(image)
        accent = ACCENTS[(self.chapter_index or 0) % len(ACCENTS)]
        # Quiet circles in the corner, so that a slide is not a page of text.
        pale = _blend(PAPER, accent, 0.25)
        for radius in RING_RADII:
            _draw_circle(image, (WIDTH, HEIGHT), radius, pale, line_width=4)
        number = TALK_TITLE if self.chapter_index is None else f"{TALK_TITLE}  ·  {self.chapter_index + 1}"
        pen.text((MARGIN, 84), number.upper(), font=_font(22), fill=accent)
        y = _draw_wrapped(pen, (MARGIN, 128), self.title, _font(60), INK)
        pen.rectangle((MARGIN, y + 22, MARGIN + 120, y + 28), fill=accent)
        y += 72
        for bullet in self.bullets:
            _draw_circle(image, (MARGIN + 6, y + 22), 6, accent)
            y = _draw_wrapped(pen, (MARGIN + 36, y), bullet, _font(36), INK) + 22
        self._draw_speakers(image, pen, accent)
        return image

    def _draw_speakers(self, image: Image.Image, pen: ImageDraw.ImageDraw, accent: Colour) -> None:
        x, y = MARGIN, HEIGHT - 80
        for name in SPEAKERS:
            speaking = name == self.speaker
            _draw_circle(image, (x + 7, y), 7, accent if speaking else GREY, line_width=None if speaking else 2)
            pen.text((x + 26, y), name, font=_font(26), fill=INK if speaking else GREY, anchor="lm")
            x += 26 + round(_font(26).getlength(name)) + 48


class TalkWriter:
    """An MP4 with H.264 (MPEG-4 where PyAV has no x264) and AAC stereo, written block by block.

    Use as a context manager: leaving it completes the file, leaving it by an exception removes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        if "libx264" in av.codecs_available:
            self._video = self._container.add_stream("libx264", rate=FRAMES_PER_S, options=X264_OPTIONS)
        else:
            self._video = self._container.add_stream("mpeg4", rate=FRAMES_PER_S)
        self._video.width, self._video.height, self._video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        self._video.codec_context.gop_size = GOP_FRAMES
        self._video.codec_context.thread_count = 1
        self._audio = self._container.add_stream("aac", rate=RATE_HZ, layout="stereo")
        self._audio.bit_rate = AUDIO_BITS_PER_S
        self._num_samples = 0
        self._num_frames = 0
        self._slide: Slide | None = None
        self._picture: av.VideoFrame | None = None

    def __enter__(self) -> TalkWriter:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._container.mux(self._video.encode(None))
            self._container.mux(self._audio.encode(None))
        self._container.close()
        if error is not None:
            self._path.unlink(missing_ok=True)

    def write(self, block: Block, slides: deque[tuple[float, Slide]]) -> None:
        """Append audio, and the video of the same time; slides that are due are taken from the left."""
        frame = audio_frame(block, "fltp", hz=RATE_HZ, position=self._num_samples)
        self._container.mux(self._audio.encode(frame))
        self._num_samples += len(block)
        while self._num_frames * RATE_HZ < self._num_samples * FRAMES_PER_S:
            while slides and slides[0][0] <= self._num_frames / FRAMES_PER_S:
                self._show(slides.popleft()[1])
            self._write_frame()

    def _show(self, slide: Slide) -> None:
        if slide != self._slide:
            pixels = np.asarray(slide.draw())
            self._slide = slide
            self._picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")

    def _write_frame(self) -> None:
        if self._picture is None:
            raise ValueError("a slide must be due at 0 s; found none; give one before the first block")
        self._picture.pts, self._picture.time_base = self._num_frames, Fraction(1, FRAMES_PER_S)
        self._container.mux(self._video.encode(self._picture))
        self._num_frames += 1


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow must be built with FreeType to draw slides; run: pip install --force-reinstall pillow")
    return font


def _draw_wrapped(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, font: ImageFont.FreeTypeFont, fill: Colour
) -> int:
    """Draw text in lines no wider than the margins leave; returns where the next line would begin."""
    x, y = at
    room = MARGIN + TEXT_WIDTH - x
    line = ""
    for word in [*text.split(), None]:
        longer = f"{line} {word}".strip()
        if word is None or font.getlength(longer) > room:
            pen.text((x, y), line, font=font, fill=fill)
            y += round(font.size * 1.25)
            longer = word or ""
        line = longer
    return y


def _draw_circle(
    image: Image.Image, centre: tuple[int, int], radius: int, colour: Colour, line_width: int | None = None
) -> None:
    """A disc, or a ring of ``line_width``, drawn large and shrunk: Pillow's own circles have jagged edges."""
    size, scale = 2 * radius + 2, SMOOTHING
    mask = Image.new("L", (size * scale, size * scale), 0)
    box = (scale, scale, (size - 1) * scale - 1, (size - 1) * scale - 1)
    if line_width is None:
        ImageDraw.Draw(mask).ellipse(box, fill=255)
    else:
        ImageDraw.Draw(mask).ellipse(box, outline=255, width=line_width * scale)
    image.paste(
        colour, (centre[0] - radius - 1, centre[1] - radius - 1), mask.resize((size, size), Image.Resampling.BOX)
    )


def _blend(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (round(of_a + share * (of_b - of_a)) for of_a, of_b in zip(a, b, strict=True))
    return red, green, blue
