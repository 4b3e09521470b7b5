"""The records that the steps hand to each other, one type per step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from actors.types import Candidate, Clip, Plan, Reference, Segment, Span, SpeakerTurn, Transcript, Unit, Window
from cluster.alignment.align import SecondSpan
from cluster.config.schema import Config
from cluster.flags import Flag
from cluster.media.plan import OutputPlan
from cluster.media.probe import AudioTrack, MediaInfo
from cluster.speakers.prints import Print
from cluster.timing.fit import Fit
from cluster.timing.ranking import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageGuess:
    """A language that speech may be in."""

    language: str
    """BCP-47."""
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HearingNotes:
    """Doubts about how the source was heard, for the manifest."""

    guesses: tuple[LanguageGuess, ...] = ()
    """Likeliest languages of the whole recording, best first; none if the engine cannot tell."""
    is_uncertain: bool = False
    """True if the language was chosen in doubt."""
    is_contradicted: bool = False
    """True if the recording certainly sounds like another language than the one it was taken to be in."""
    not_transcribed: tuple[Span, ...] = ()
    """Stretches of speech for which no words were found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMedia:
    """The input file, the audio track that is dubbed, and the plan of the output's media files."""

    info: MediaInfo
    track: AudioTrack
    plan: OutputPlan
    track_reason: str = ""
    """Why this track, in a few words for people."""
    in_target: tuple[AudioTrack, ...] = ()
    """Other audio tracks, which are in a target language already."""

    @property
    def suffix(self) -> str:
        """The suffix of the output's media files."""
        return self.plan.suffix

    def describe(self, source_language: str | None, targets: Sequence[str]) -> str:
        """One line for people, before the work: the track and its language, and the fate of each stream."""
        tagged = f"{self.track.language} by its tag" if self.track.language else "to be detected"
        reason = f" ({self.track_reason})" if self.track_reason else ""
        language = source_language or tagged
        words = [f"audio track {self.track.describe()}{reason}, language {language}, to {', '.join(targets)}"]
        words += [f"audio track {track.number} is in a target language already" for track in self.in_target]
        words += [self.plan.describe()]
        if self.info.is_truncated:
            words.append(f"truncated: {self.info.duration_s:.1f} s of the {self.info.claimed_s:.1f} s in its header")
        if self.info.parts:
            joins = ", ".join(f"{time_s:.1f} s" for time_s in self.info.joins_s)
            words.append(f"times jump, parts are joined at {joins}")
        return "; ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpokenWindow:
    """A window, and who speaks in it."""

    window: Window
    turns: Sequence[SpeakerTurn]
    pitches_hz: Mapping[str, float] = field(default_factory=dict)
    """Median pitch of each speaker, by what was heard of them until the window left."""
    prints: Mapping[str, Print] = field(default_factory=dict)
    """Print of each speaker's voice, as far as heard; none if no cast is kept."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeardWindow:
    """A window, who speaks in it, and what is said."""

    spoken: SpokenWindow
    transcript: Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardUnit:
    """A unit of source speech, with the loudness of its speaker up to its end."""

    unit: Unit
    source_lufs: float | None
    pitch_hz: float | None = None
    """Median pitch of the speaker; None if it is not known."""
    reference: Reference | None = None
    """The speaker's voice, where it is to be cloned."""
    print: Print | None = None
    """Print of the speaker's voice, where a cast is kept."""
    segment_flags: Mapping[str, tuple[Flag, ...]] = field(default_factory=dict)
    """Segment id → flags that its lines have from the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One line of one target language, with the time it may use. Ids read pt:u0012, or pt:u0012-1 in a longer unit."""

    id: str
    unit_id: str
    segment: Segment
    target: str
    room_end_s: float
    source_lufs: float | None
    reference: Reference | None
    candidates: tuple[Candidate, ...]
    """Best first; none if there is nothing to say."""
    flags: tuple[Flag, ...]
    error: str | None
    pitch_hz: float | None = None
    """Median pitch of the speaker; None if it is not known."""
    voice: str | None = None
    """Voice asked for by a person; None takes the configured voice of the language."""
    alignment: str | None = None
    """Method that found its words among its unit's; None where they are all of them."""
    break_confidences: tuple[float | None, ...] = ()
    """Per candidate, the probability of the break it begins at, 0 to 1; None where the unit begins."""
    doubt: str | None = None
    """Why the translation may be wrong, if it may."""
    second: SecondSpan | None = None
    """Share of the first candidate by the second strategy, where the unit was sampled for that."""

    @property
    def slot(self) -> Span:
        return Span(start_s=self.segment.start_s, end_s=min(self.segment.end_s, self.room_end_s))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CandidatePlan:
    """One translation of a line: its plan, and why it is said or not."""

    candidate: Candidate
    plan: Plan | None
    """None if the speech engine could not plan it."""
    error: str | None
    """Why there is no plan."""
    natural_s: float | None
    """Planned length; None without a plan."""
    cosine: float | None
    """Similarity of its unit's translation to the source; None if not compared."""
    penalty: float | None
    """Penalty for the time that its unit's lines take; None if not planned."""
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedLine:
    """An utterance and the ways it could be said."""

    utterance: Utterance
    candidates: tuple[CandidatePlan, ...]
    others: tuple[CandidatePlan, ...] = ()
    """Candidates that could be said instead of the chosen one, best first: none in a unit of several lines."""

    @property
    def chosen(self) -> CandidatePlan | None:
        """The candidate to say; None if there is none, or if it could not be planned."""
        chosen = (each for each in self.candidates if each.standing is Standing.CHOSEN and each.plan is not None)
        return next(chosen, None)

    @property
    def error(self) -> str | None:
        """Why nothing is said: the first plan's failure, else that of the translation."""
        errors = [each.error for each in self.candidates if each.error is not None]
        return errors[0] if self.chosen is None and errors else self.utterance.error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spoken:
    """An utterance as it will sound, or why it will not."""

    utterance: Utterance
    text: str
    clip: Clip | None
    start_s: float
    """Start of its sound: that of its slot, or a little before."""
    voice: str | None
    fit: Fit | None
    candidates: tuple[CandidatePlan, ...]
    """All that could have been said, in the translator's order."""
    flags: tuple[Flag, ...]
    error: str | None

    @property
    def end_s(self) -> float:
        """End of its sound; that of the original's, if the original is kept."""
        return self.utterance.segment.end_s if self.clip is None else self.start_s + self.clip.duration_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixedBlock:
    """The next stretch of a mixed sound track; blocks of one target come in order, without a gap."""

    target: str
    samples: npt.NDArray[np.float32]
    """float32 (num_samples, num_channels), at ``RATE_HZ``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One of the configurations that are compared on the same speech."""

    name: str
    """Short, and valid in a file name."""
    config: Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One dub of the input: a target language by one configuration. Branches share the transcription."""

    name: str
    """Unique within a job, names its files: pt, or pt.a for an arm's."""
    target: str
    """BCP-47."""
    arm: str | None
    config: Config


def branches_of(targets: Sequence[str], arms: Sequence[Arm], config: Config) -> tuple[Branch, ...]:
    """One branch for every target and arm; for every target, by ``config``, if there are no arms."""
    if not arms:
        return tuple(Branch(name=target, target=target, arm=None, config=config) for target in targets)
    return tuple(
        Branch(name=f"{target}.{arm.name}", target=target, arm=arm.name, config=arm.config)
        for target in targets
        for arm in arms
    )
