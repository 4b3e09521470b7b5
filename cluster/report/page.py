"""Renders ``report.html``: one dubbed video on one page, for the person who checks it.

The page needs nothing but itself and the media file beside it: no network, no fonts, no libraries.
File names, recognised speech and translations are untrusted. They reach the page only through
Jinja's autoescaping, as text or as quoted attributes, never as script or style; and the page's own
content security policy runs no script but the one whose hash it states.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import math
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from actors.languages import display_name
from cluster.config.load import dump_yaml
from cluster.flags import Flag
from cluster.manifest import Manifest, SummaryRecord, UtteranceRecord, replace_text
from cluster.quality import Metric
from cluster.report.figures import Figures, FitOutcome, figures_of, outcome_of
from cluster.report.timeline import clock, timeline_of

if TYPE_CHECKING:
    from jinja2 import Template

FLAG_MEANINGS: Mapping[Flag, str] = {
    Flag.NO_SPEECH: "No speech was found: the output is the source, unchanged.",
    Flag.DAMAGED: "Part of the input is damaged; silence stands in its place.",
    Flag.TRANSCRIPTION_FAILED: "A stretch of speech could not be transcribed; it keeps its original sound.",
    Flag.SPEECH_NOT_TRANSCRIBED: "For some speech no words were found; it keeps its original sound.",
    Flag.LANGUAGE_UNCERTAIN: "The language spoken was chosen in doubt; --from settles it.",
    Flag.LANGUAGE_CONTRADICTED: "It sounds like another language than the one it was taken to be in.",
    Flag.TRACK_TAG_CONTRADICTED: "The dubbed track sounds like another language than the file says.",
    Flag.STREAM_DROPPED: "A stream of the input was left out, because the output's container cannot hold it.",
    Flag.TRUNCATED: "The input ends before its header says; what could be read is dubbed.",
    Flag.TIMESTAMPS_JOINED: "The input's times jump; its parts were joined.",
    Flag.STREAM_ENCODED: "A stream of the input was encoded again, because the output's container cannot hold it.",
    Flag.SUBTITLES_REPAIRED: "Cues of the subtitles brought along were repaired or left out; they are listed below.",
    Flag.ENCODING_DOUBTFUL: "The encoding of the subtitles brought along is a guess; --subtitles-encoding settles it.",
    Flag.RETIMED: "The times of its cue were repaired.",
    Flag.FAST: "Spoken above the ordinary rate.",
    Flag.CUT: "Words are left out at the end: there is no time for them even at the highest rate.",
    Flag.NO_ROOM: "Not dubbed, the original is kept: the next speech begins at once.",
    Flag.TRANSLATION_FAILED: "Not dubbed, the original is kept: the translation failed.",
    Flag.TRANSLATION_DOUBTFUL: "The translation may be wrong: it does not read like its source when translated back.",
    Flag.OFF_LANGUAGE: "The translation seems to be left in the source language.",
    Flag.HEARD_WRONG: "Other words are heard than were to be said.",
    Flag.TOO_FAST: "Spoken faster than its words can be followed.",
    Flag.DRIFTED: "Apart from its source in meaning, or over the speaker's line before it.",
    Flag.SPEECH_FAILED: "Not dubbed, the original is kept: the speech engine failed.",
    Flag.EMPTY: "Not dubbed, the original is kept: the translation left no words for this segment.",
    Flag.ALREADY_IN_TARGET: "Not dubbed, the original is kept: it is spoken in the target language.",
    Flag.LANGUAGE_UNSUPPORTED: "Not dubbed, the original is kept: no engine translates the language it is spoken in.",
    Flag.NOISE: "Not dubbed, the original is kept: an interjection or a noise.",
}
OUTCOME_MEANINGS: Mapping[FitOutcome, str] = {
    FitOutcome.NATURAL: "at the voice's own pace, inside the slot",
    FitOutcome.OVERFLOW: "at its own pace, into the following pause",
    FitOutcome.FASTER: "planned at a faster pace",
    FitOutcome.STRETCHED: "sped up after it was spoken",
    FitOutcome.CUT: "words left out at the end",
    FitOutcome.KEPT: "not dubbed, the original is heard",
}
METRIC_NAMES: Mapping[Metric, str] = {
    Metric.WER: "word error rate, heard again",
    Metric.CER: "letter error rate, heard again",
    Metric.COSINE: "cosine with the source",
    Metric.BACK_CHRF: "chrF, translated back",
    Metric.DURATION_RATIO: "duration, of its slot",
    Metric.STRETCH: "stretch",
    Metric.OVERLAP_S: "overlap with the same speaker, s",
    Metric.SYLLABLES_PER_S: "syllables a second",
    Metric.SILENCE_COVERAGE: "speech time left silent",
}
STATUS_MEANINGS: Mapping[str, str] = {
    "done": "every line is dubbed in full",
    "degraded": "some lines are cut, or kept in the original",
    "unchanged": "nothing to dub: the output is the source",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportAudio:
    """An audio track to embed: the original, or the dub of one language alone."""

    label: str
    language: str | None
    """BCP-47 of the speech; None if unknown."""
    mime: str
    data: bytes
    """A whole encoded file."""

    @property
    def title(self) -> str:
        label = self.label[:1].upper() + self.label[1:]
        return label if self.language is None else f"{label}, {language_name(self.language)}"

    @property
    def data_uri(self) -> str:
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A row of the table."""

    utterance: UtteranceRecord
    outcome: FitOutcome
    source_language: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dub:
    """A target language's section."""

    language: str
    arm: str | None
    lines: tuple[_Line, ...]
    figures: Figures
    subtitles: tuple[str, ...]
    quality: tuple[SummaryRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Engine:
    task: str
    name: str


def write_report(manifest: Manifest, audio: Sequence[ReportAudio], path: Path) -> None:
    """Write the page to ``path``, in the folder of the media file that it links.

    ``audio`` is embedded whole, as data URIs; without any, the page states the reason. Raises OSError if
    ``path`` cannot be written, and then leaves what was there.
    """
    replace_text(path, _render(manifest, audio))


def _render(manifest: Manifest, audio: Sequence[ReportAudio]) -> str:
    script, style = Markup(resource("report.js")), Markup(resource("report.css"))  # noqa: S704 -- our own files
    return _template().render(
        manifest=manifest,
        audio=audio,
        audio_note=None if audio else _why_no_audio(manifest),
        player="audio" if (mimetypes.guess_type(manifest.media_file)[0] or "").startswith("audio/") else "video",
        dubs=_dubs(manifest),
        timeline=timeline_of(manifest),
        num_utterances=sum(len(dub.utterances) for dub in manifest.dubs),
        verdict=manifest.verdict,
        flags_of_lines=sorted({flag for dub in manifest.dubs for line in dub.utterances for flag in line.flags}),
        num_flagged=sum(utterance.needs_look for dub in manifest.dubs for utterance in dub.utterances),
        engines=_engines(manifest.config),
        config_yaml=dump_yaml(manifest.config),
        flag_meanings=FLAG_MEANINGS,
        metric_names=METRIC_NAMES,
        outcome_meanings=OUTCOME_MEANINGS,
        status_meaning=STATUS_MEANINGS.get(manifest.status, ""),
        script=script,
        script_hash=csp_hash(script),
        style=style,
        style_hash=csp_hash(style),
    )


@functools.cache
def _template() -> Template:
    return page_template("report.html.j2", file_url=_file_url, signed=_signed)


def _dubs(manifest: Manifest) -> list[_Dub]:
    language_of_segment = {segment.id: segment.language for segment in manifest.segments}
    ordinary_rate = _setting(manifest.config, "fitting", "ordinary_rate")
    max_rate = _setting(manifest.config, "fitting", "max_rate")
    return [
        _Dub(
            language=dub.language,
            arm=dub.arm,
            lines=tuple(
                _Line(
                    utterance=utterance,
                    outcome=outcome_of(utterance),
                    source_language=language_of_segment.get(utterance.segment_id, manifest.input.language),
                )
                for utterance in dub.utterances
            ),
            figures=figures_of(dub.utterances, ordinary_rate, max_rate),
            subtitles=dub.subtitles,
            quality=dub.quality,
        )
        for dub in manifest.dubs
    ]


def _engines(config: Mapping[str, Any]) -> list[_Engine]:
    """The engines by a saved configuration of any version: one a stage, and each language's own speech engine."""
    engines = []
    for task in ("transcription", "translation", "speech"):
        name = _setting(config, task, "engine")
        by_language = _setting(config, task, "by_language") or {}
        if name is not None and not (name == "auto" and by_language):
            engines.append(_Engine(task=task, name=str(name)))
        for language in by_language:
            own = _setting(by_language, language, "engine")
            engines.append(_Engine(task=f"{task}, {language}", name=str(own)))
    return engines


def _why_no_audio(manifest: Manifest) -> str:
    limit_s = _setting(manifest.config, "output", "report_max_embed_s")
    if limit_s is None or manifest.input.duration_s <= limit_s:
        return "No sound is embedded in this page."
    return (
        f"No sound is embedded in this page: the media lasts {clock(manifest.input.duration_s)}, "
        f"and output.report_max_embed_s allows {clock(limit_s)}."
    )


def _setting(tree: Mapping[str, Any], *keys: str) -> Any:
    """The value of a saved configuration at ``keys``; None if it has no such key."""
    node: Any = tree
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _file_url(name: str) -> str:
    """The relative URL of a file in the page's folder.

    Quoting ``:`` and ``/`` keeps any name from being a scheme or a path.
    """
    return quote(name, safe="")


def page_template(name: str, package: str = "cluster.report", **filters: Callable[..., str]) -> Template:
    """A page's template, with the filters of all pages and its own ``filters``."""
    from jinja2 import Environment, StrictUndefined  # slow to import, and needed last

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"clock": clock, "language_name": language_name, "number": number, **filters}
    return environment.from_string(resource(name, package))


def language_name(tag: str | None) -> str:
    if tag is None:
        return "unknown language"
    try:
        return display_name(tag)
    except ValueError:  # langcodes' error for a malformed tag
        return tag


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:+.1f}".replace("-", "−")


def csp_hash(text: str) -> str:
    """The source expression that allows exactly this inline text (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def resource(name: str, package: str = "cluster.report") -> str:
    """The text of a file inside ``package``."""
    return importlib.resources.files(package).joinpath(name).read_text(encoding="utf-8")
