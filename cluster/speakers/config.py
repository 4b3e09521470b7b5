"""Settings of telling speakers apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.errors import ConfigError

RTTM_SUFFIX = ".rttm"


class SpeakersConfig(BaseModel):
    """Telling speakers apart, so that each has a voice of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Annotated[int, Field(ge=1, le=100)] | Literal["auto"] = "auto"
    """Number of speakers. ``auto`` finds it out; with 1, everybody has the same voice and no model is loaded."""
    required: bool = False
    """Fail a dub whose speakers cannot be told apart, as where the engine's weights cannot be had. Otherwise, with
    ``auto``, the log says so and everybody has one voice. ``--speakers`` sets it."""
    rttm: str | None = None
    """RTTM file with the turns of the input, by which speakers are named instead of being told apart."""
    cast: str | None = None
    """JSON file in which speakers are known again in later files, with their voices; written after each dub. Files of a
    series that are dubbed at the same time do not know each other's new speakers."""
    min_cast_likeness: float = Field(default=0.75, gt=-1, lt=1)
    """Cosine similarity of mean vectors from which a speaker is one of the cast. It belongs to the engine."""
    voices: Mapping[str, tuple[str, ...]] = {}
    """Voices of speakers, by name: {S1: [pf_dora]}. In each target language the first that its engine has is taken;
    other speakers get the free voice most like theirs."""
    max_count: int = Field(default=12, ge=1, le=100)
    """Maximum number of speakers that ``auto`` finds."""
    min_likeness: float = Field(default=0.38, gt=-1, lt=1)
    """Mean cosine similarity below which two groups of voices are never one speaker. It belongs to the engine; where
    the recording's own pieces are more alike than usual, more is asked for."""
    min_speaker_s: float = Field(default=2.5, ge=0)
    """Seconds of speech from which ``auto`` takes a voice for a further speaker; less counts as the most alike one."""
    lookahead_s: float = Field(default=60.0, ge=0)
    """Seconds of the source after a line that are heard before its speaker is settled. More of it finds speakers more
    reliably; the audio is kept in memory."""
    first_lookahead_s: float = Field(default=20.0, ge=0)
    """The same for the first line, which waits for it. Later lines wait for as much as came before them, from here up
    to ``lookahead_s``."""

    def lookahead_after_s(self, time_s: float) -> float:
        """Seconds to be heard after this time, on the media timeline, before its speaker is settled."""
        return min(self.lookahead_s, max(self.first_lookahead_s, time_s))

    @property
    def most(self) -> int:
        """Maximum number of speakers that are not named by anyone."""
        return self.max_count if self.count == "auto" else self.count

    @property
    def has_cast(self) -> bool:
        """True if speakers have voices of their own."""
        return self.count != 1 or self.rttm is not None or bool(self.voices)

    @property
    def is_asked_for(self) -> bool:
        """True if somebody said how many speakers there are, who they are, or that they must be told apart."""
        return self.required or self.count != "auto" or self.rttm is not None

    @property
    def tells_apart(self) -> bool:
        """True if voices are compared: there may be several speakers, and no file says who speaks when."""
        return self.count != 1 and self.rttm is None


def speaker_settings(given: str) -> dict[str, int | str]:
    """The settings that ``--speakers`` stands for: auto, a number, or a file with turns. Raises ConfigError."""
    text = given.strip()
    if text.lower().endswith(RTTM_SUFFIX):
        return {"rttm": text}
    if text == "auto":
        return {"count": "auto", "required": True}
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 100:
        return {"count": int(text)}
    raise ConfigError(f"speakers must be auto, a number from 1 to 100, or a file *{RTTM_SUFFIX}; found {given!r}")
