"""``report.html``: one dubbed video on one page, for the person who checks it.

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
from typing import Any
from urllib.parse import quote

import yaml
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from actors.languages import display_name
from cluster.manifest import Flag, Manifest, SummaryRecord, UtteranceRecord, replace_text
from cluster.quality import Metric
from cluster.report_figures import Figures, Outcome, figures_of, outcome_of
from cluster.report_timeline import clock, timeline_of

FLAG_MEANINGS: Mapping[Flag, str] = {
    Flag.NO_SPEECH: "No speech was found: the output is the source, unchanged.",
    Flag.DAMAGED: "Part of the input is damaged; silence stands in its place.",
    Flag.TRANSCRIPTION_FAILED: "A stretch of speech could not be transcribed; it keeps its original sound.",
    Flag.STREAM_DROPPED: "A stream of the input was left out, because the output's container cannot hold it.",
    Flag.FAST: "Spoken above the ordinary rate.",
    Flag.CUT: "Words are left out at the end: there is no time for them even at the highest rate.",
    Flag.NO_ROOM: "Not dubbed, the original is kept: the next speech begins at once.",
    Flag.TRANSLATION_FAILED: "Not dubbed, the original is kept: the translation failed.",
    Flag.SPEECH_FAILED: "Not dubbed, the original is kept: the speech engine failed.",
    Flag.EMPTY: "Not dubbed, the original is kept: the translation left no words for this segment.",
}
OUTCOME_MEANINGS: Mapping[Outcome, str] = {
    Outcome.NATURAL: "at the voice's own pace, inside the slot",
    Outcome.OVERFLOW: "at its own pace, into the following pause",
    Outcome.FASTER: "planned at a faster pace",
    Outcome.STRETCHED: "sped up after it was spoken",
    Outcome.CUT: "words left out at the end",
    Outcome.KEPT: "not dubbed, the original is heard",
}
METRIC_NAMES: Mapping[Metric, str] = {
    Metric.WER: "word error rate, heard again",
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
    """One sound track to embed: the original, or the dub of one language alone."""

    label: str
    language: str | None
    """BCP-47 of what is said; None if nobody knows."""
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
    outcome: Outcome
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
    """Make the page at ``path``, beside the media file it links.

    ``audio`` is embedded whole, as data URIs; without any, the page says why. Raises OSError if
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
        num_flagged=sum(bool(utterance.flags) for dub in manifest.dubs for utterance in dub.utterances),
        engines=_engines(manifest.config),
        config_yaml=yaml.safe_dump(manifest.config, sort_keys=False, allow_unicode=True),
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
    """One for each stage, and each language's own speech engine. The config is the saved one, of any version."""
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
    """What a saved configuration holds at ``keys``; None if it has no such key."""
    node: Any = tree
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _file_url(name: str) -> str:
    """Of a file in the page's own folder. Quoting ``:`` and ``/`` keeps any name from being a scheme or a path."""
    return quote(name, safe="")


def page_template(name: str, **filters: Callable[..., str]) -> Template:
    """A page's template, with the filters that all pages have and its own."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"clock": clock, "language_name": language_name, "number": number, **filters}
    return environment.from_string(resource(name))


def language_name(tag: str | None) -> str:
    if tag is None:
        return "unknown language"
    try:
        return display_name(tag)
    except ValueError:  # langcodes' own error for what is no tag at all
        return tag


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:+.1f}".replace("-", "−")


def csp_hash(text: str) -> str:
    """The source expression that admits exactly this inline text (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def resource(name: str) -> str:
    return importlib.resources.files("cluster").joinpath(name).read_text(encoding="utf-8")
