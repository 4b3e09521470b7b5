"""Settings of voice activity detection, windows, loudness and the mix."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class WindowConfig(BaseModel):
    """Voice activity detection, and the cuts between windows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Speech begins at this probability."""
    exit_threshold: float = Field(default=0.35, gt=0, lt=1)
    """Speech ends below this one: hysteresis, so that one quiet syllable does not split a word."""
    min_speech_s: float = Field(default=0.1, ge=0)
    min_silence_s: float = Field(default=0.2, ge=0)
    pad_s: float = Field(default=0.2, ge=0, le=1)
    """Silence kept around a window's speech; whispered onsets hide in it."""
    target_s: float = Field(default=15.0, gt=0)
    """From here on the longest pause is looked for."""
    max_s: float = Field(default=30.0, gt=1, le=30)
    first_target_s: float = Field(default=6.0, gt=0)
    first_max_s: float = Field(default=12.0, gt=1, le=30)
    """The first window is short, about 8 s: everything downstream waits for it."""
    max_pause_s: float = Field(default=2.0, gt=0)
    """A pause this long always ends a window: transcribers invent text in silence."""
    max_unheard_s: float = Field(default=1.0, gt=0)
    """Seconds of speech without words from which a stretch is transcribed again by itself, and flagged if that finds
    no words either."""

    @model_validator(mode="after")
    def _check(self) -> WindowConfig:
        for target_s, max_s in ((self.target_s, self.max_s), (self.first_target_s, self.first_max_s)):
            if target_s + 2 * self.pad_s + 1.0 > max_s:
                raise ValueError(f"target_s must be 1 s plus both pads below max_s, found {target_s} and {max_s}")
        if self.exit_threshold > self.threshold:
            raise ValueError(f"exit_threshold must be at most threshold, found {self.exit_threshold}")
        return self


class LoudnessConfig(BaseModel):
    """Loudness of the dubbed voices.

    Levels are of the finished programme: a mono voice played in both channels of a stereo track
    measures 3 LU more than it does alone, and that is counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_lufs: float = Field(default=-33.0, ge=-50.0, le=0.0)
    """Source speech quieter than this, 10 LU under EBU R128's programme level, is dubbed louder than it was."""
    max_lufs: float = Field(default=-10.0, ge=-50.0, le=0.0)
    """Source speech louder than this is dubbed softer than it was: the limiter would flatten it."""
    max_shift_db: float = Field(default=6.0, ge=0.0, le=40.0)
    """Most by which the two limits above move a dub away from its source.

    A talk at -45 LUFS is dubbed at -39, not at -33: its listener has turned the volume up, and
    whatever stays undubbed is still at -45.
    """
    max_gain_db: float = Field(default=20.0, ge=0.0, le=60.0)
    """Most gain, up or down, that a clip is given: past this its level was mismeasured."""

    @model_validator(mode="after")
    def _ordered(self) -> LoudnessConfig:
        if self.min_lufs > self.max_lufs:
            raise ValueError(f"min_lufs must be at most max_lufs; found {self.min_lufs} > {self.max_lufs}")
        return self


class MixConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    duck_db: float = Field(default=-12.0, ge=-90.0, le=0.0)
    """Level of the original under the dub. -12 leaves music and rooms alive and the original voice behind;
    -18 to -24 hides the voice; 0 leaves the original as it is."""
    attack_s: float = Field(default=0.12, ge=0.005, le=2.0)
    """The original starts to go down this long before a dub and is down when it starts."""
    release_s: float = Field(default=0.35, ge=0.005, le=5.0)
    """It is back this long after the dub."""
    fade_s: float = Field(default=0.005, ge=0.0, le=0.1)
    """Fade at both ends of each clip: a cut wave clicks."""
    ceiling_dbtp: float = Field(default=-1.0, ge=-20.0, le=0.0)
    """True peak of the mix at most; -1 leaves lossy encoders room (EBU R128)."""
    loudness: LoudnessConfig = LoudnessConfig()
