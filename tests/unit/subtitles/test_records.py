"""Subtitles brought along, as the manifest and the console tell of them."""

from __future__ import annotations

from cluster.subtitles.cues import CueIssue, IssueKind, SubtitleFile
from cluster.subtitles.records import GivenSubtitlesRecord


def record(*kinds: IssueKind, is_doubtful: bool = False) -> GivenSubtitlesRecord:
    issues = tuple(CueIssue.of(kind, float(number), f"cue {number}") for number, kind in enumerate(kinds))
    file = SubtitleFile(
        name="talk.srt",
        form="SubRip",
        encoding="cp1251",
        is_encoding_doubtful=is_doubtful,
        cues=(),
        issues=issues,
    )
    return GivenSubtitlesRecord.of(file, "ru")


def test_ordinary_captions_raise_no_flag() -> None:
    assert not record(IssueKind.SOUND, IssueKind.LABEL, IssueKind.ROLLING).is_repaired
    assert record(IssueKind.SOUND, IssueKind.PAST_END).is_repaired


def test_every_kind_has_a_line_that_names_its_first_cues() -> None:
    lines = list(record(*IssueKind, *[IssueKind.SOUND] * 9, is_doubtful=True).lines())
    assert len(lines) == 1 + len(IssueKind)
    assert "cp1251, a guess" in lines[0]
    assert "--subtitles-encoding" in lines[0]
    assert any(line.startswith("1 left out, past the end of the media: 0:00:02.000") for line in lines)
    assert any(line.startswith("10 sounds") and line.endswith("…") for line in lines)


def test_a_time_that_cannot_be_read_is_quoted() -> None:
    file = record()
    broken = CueIssue.of(IssueKind.NO_TIME, None, "soon --> later")
    assert (
        "soon --> later"
        in list(
            GivenSubtitlesRecord.of(
                SubtitleFile(
                    name=file.name,
                    form=file.format,
                    encoding="utf_8",
                    is_encoding_doubtful=False,
                    cues=(),
                    issues=(broken,),
                ),
                None,
            ).lines()
        )[1]
    )
