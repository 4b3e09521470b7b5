"""Subtitles brought along as the manifest records them and the console tells of them."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from cluster.subtitles.cues import HARMLESS, CueIssue, IssueKind, SubtitleFile
from cluster.subtitles.timecodes import clock

MAX_TIMES = 5
"""Cues of one kind that a line names; the manifest names all."""

MEANINGS = {
    IssueKind.ODD_TIME: "times that the format does not allow, read leniently",
    IssueKind.NO_TIME: "left out, times cannot be read",
    IssueKind.PAST_END: "left out, past the end of the media",
    IssueKind.NO_LENGTH: "without length, given the time they take",
    IssueKind.OVERLAP: "over another cue, moved behind it",
    IssueKind.CROWDED: "left out, too many others at their time",
    IssueKind.DOUBLED: "left out, the same words stand in another",
    IssueKind.ROLLING: "repeating the one before, said once",
    IssueKind.SIGN: "left out, signs or drawings",
    IssueKind.SONG: "lyrics or karaoke, original sound kept",
    IssueKind.SOUND: "sounds, original sound kept",
    IssueKind.LABEL: "names of speakers, not said",
}


class CueIssueRecord(BaseModel):
    """A cue of subtitles brought along that was repaired or left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: IssueKind
    start_s: float | None
    """None if its time cannot be read."""
    text: str

    @classmethod
    def of(cls, issue: CueIssue) -> CueIssueRecord:
        return cls(kind=issue.kind, start_s=issue.start_s, text=issue.text)


class GivenSubtitlesRecord(BaseModel):
    """A file of subtitles brought along, as it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    language: str | None
    format: str
    encoding: str
    is_encoding_doubtful: bool
    num_cues: int
    issues: tuple[CueIssueRecord, ...]

    @classmethod
    def of(cls, file: SubtitleFile, language: str | None) -> GivenSubtitlesRecord:
        return cls(
            name=file.name,
            language=language,
            format=file.form,
            encoding=file.encoding,
            is_encoding_doubtful=file.is_encoding_doubtful,
            num_cues=len(file.cues),
            issues=tuple(CueIssueRecord.of(issue) for issue in file.issues),
        )

    @property
    def is_repaired(self) -> bool:
        """A person should look at what was repaired or left out."""
        return any(issue.kind not in HARMLESS for issue in self.issues)

    def lines(self) -> Iterator[str]:
        """The file and each kind of issue in it, for a person."""
        guess = ", a guess: read the lines, or give --subtitles-encoding" if self.is_encoding_doubtful else ""
        yield f"subtitles {self.name}: {self.num_cues} cues ({self.format}, {self.encoding}{guess})"
        by_kind: dict[IssueKind, list[CueIssueRecord]] = {}
        for issue in self.issues:
            by_kind.setdefault(issue.kind, []).append(issue)
        for kind, issues in by_kind.items():
            places = [issue.text if issue.start_s is None else clock(issue.start_s) for issue in issues[:MAX_TIMES]]
            more = " …" if len(issues) > MAX_TIMES else ""
            yield f"{len(issues)} {MEANINGS[kind]}: {', '.join(places)}{more}"
