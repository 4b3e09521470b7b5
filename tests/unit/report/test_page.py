import base64
import hashlib
import importlib.resources
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.config.load import load_config
from cluster.flags import Flag
from cluster.manifest import DroppedStreamRecord, Manifest
from cluster.quality import Metric, measured, unmeasured
from cluster.report.figures import FitOutcome, figures_of, outcome_of
from cluster.report.page import FLAG_MEANINGS, OUTCOME_MEANINGS, ReportAudio, write_report
from cluster.report.timeline import Mark, clock, timeline_of
from cluster.steps.grade import graded
from cluster.timing.fit import Rung
from tests.unit.manifests import sample_manifest, unchanged_manifest

QUALITY = load_config("offline").quality
HOSTILE = """</title></script></style>"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}${1}&lt;"""
AUDIO = (
    ReportAudio(label="original", language="en", mime="audio/mp4", data=b"original sound"),
    ReportAudio(label="dub", language="pt", mime="audio/mp4", data=b"dubbed sound"),
)


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""
    cells: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """Every element in order, with the text directly and indirectly inside it."""

    VOID = frozenset({"meta", "link", "input", "img", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(self.source)
        self.close()
        assert not self._open, [element.tag for element in self._open]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in self.VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        element = self._open.pop()
        assert element.tag == tag
        if tag == "td":
            row = next(above for above in reversed(self._open) if above.tag == "tr")
            row.cells.append(element.text)

    def handle_data(self, data):
        for element in self._open:
            element.text += data

    def of(self, tag: str, **attributes: str) -> list[Element]:
        return [
            element
            for element in self.elements
            if element.tag == tag and all(element.attributes.get(name) == value for name, value in attributes.items())
        ]

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(element.tag, tuple(element.attributes)) for element in self.elements]

    @property
    def rows(self) -> list[Element]:
        """Of the utterance tables."""
        return [row for row in self.of("tr") if "data-s" in row.attributes]

    @property
    def addresses(self) -> Iterator[str]:
        for element in self.elements:
            for name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
                if name in element.attributes:
                    yield element.attributes[name]


def page_of(folder: Path, manifest: Manifest, audio: tuple[ReportAudio, ...] = ()) -> Page:
    write_report(manifest, audio, folder / "report.html")
    return Page(folder / "report.html")


def with_texts(manifest: Manifest, text: str) -> Manifest:
    """The same manifest, with ``text`` wherever something comes from outside."""
    dubs = tuple(
        dub.model_copy(
            update={
                "language": text,
                "subtitles": tuple(text for _ in dub.subtitles),
                "utterances": tuple(
                    line.model_copy(
                        update={
                            "id": text,
                            "source_text": text,
                            "text": text if line.text else "",
                            "error": text if line.error else None,
                        }
                    )
                    for line in dub.utterances
                ),
            }
        )
        for dub in manifest.dubs
    )
    return manifest.model_copy(
        update={
            "input": manifest.input.model_copy(
                update={
                    "name": text,
                    "format": text,
                    "language": text,
                    "audio_track": manifest.input.audio_track.model_copy(update={"codec": text}),
                }
            ),
            "status": text,
            "media_file": text,
            "segments": tuple(
                segment.model_copy(update={"text": text, "language": text}) for segment in manifest.segments
            ),
            "dubs": dubs,
            "dropped_streams": (DroppedStreamRecord(index=3, codec=text, why=text),),
            "config": {"transcription": {"engine": text}, "speech": {"by_language": {text: {"engine": text}}}},
            "versions": {text: text},
            "timings": manifest.timings.model_copy(
                update={"pools": tuple(pool.model_copy(update={"name": text}) for pool in manifest.timings.pools)}
            ),
        }
    )


# --- what is untrusted stays text


@pytest.fixture(scope="module")
def harmless_shape(tmp_path_factory):
    audio = tuple(ReportAudio(label="x", language="x", mime="x", data=b"sound") for _ in range(2))
    return page_of(tmp_path_factory.mktemp("harmless"), with_texts(sample_manifest(6, seed=4), "x"), audio).shape


@settings(max_examples=25, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
@example(text=HOSTILE)
def test_no_text_from_outside_changes_the_pages_structure(tmp_path_factory, harmless_shape, text):
    audio = tuple(ReportAudio(label=field, language=field, mime=field, data=b"sound") for field in (text, "x"))
    page = page_of(tmp_path_factory.mktemp("hostile"), with_texts(sample_manifest(6, seed=4), text), audio)
    assert page.shape == harmless_shape


def test_hostile_texts_are_shown_as_they_are(tmp_path):
    manifest = with_texts(sample_manifest(6, seed=4), HOSTILE)
    page = page_of(tmp_path, manifest, (ReportAudio(label=HOSTILE, language=HOSTILE, mime="audio/mp4", data=b"x"),))
    assert page.of("h1")[0].text == HOSTILE
    assert HOSTILE in page.of("title")[0].text
    (table_of_one,) = [caption.text for caption in page.of("caption")]
    assert HOSTILE in table_of_one
    for row, line in zip(page.rows, manifest.dubs[0].utterances, strict=True):
        assert row.cells[0] == HOSTILE
        assert row.cells[2] == HOSTILE
        assert row.cells[3] == (HOSTILE if line.text else f"original kept {HOSTILE}")
    assert any(audio.attributes["data-label"].startswith(HOSTILE) for audio in page.of("audio"))


def test_the_only_script_is_the_packages_own_and_the_policy_admits_no_other(tmp_path):
    page = page_of(tmp_path, with_texts(sample_manifest(6), HOSTILE), AUDIO)
    policy = page.of("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag, file in (("script", "report.js"), ("style", "report.css")):
        (element,) = page.of(tag)
        assert element.attributes == {}
        assert element.text == importlib.resources.files("cluster.report").joinpath(file).read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not [name for element in page.elements for name in element.attributes if name.startswith("on")]
    assert not [element for element in page.elements if "style" in element.attributes]


@pytest.mark.parametrize(
    "name", ["javascript:alert(1)", "//evil.example/a.mp4", "http://evil.example/a.mp4", "a b?c#d%41é.mp4", "../up.mp4"]
)
def test_a_file_name_is_only_ever_a_file_beside_the_page(tmp_path, name):
    manifest = sample_manifest(3)
    dub = manifest.dubs[0].model_copy(update={"subtitles": (name,)})
    page = page_of(tmp_path, manifest.model_copy(update={"media_file": name, "dubs": (dub,)}), AUDIO)
    files = [address for address in page.addresses if not address.startswith("data:")]
    assert len(files) == 3  # the player, its link, the subtitles
    for address in files:
        assert unquote(address) == name
        assert not set(address) & set(":/?#")


# --- what is on the page


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    page = page_of(tmp_path, sample_manifest(20, ("pt", "ar")), AUDIO)
    for address in page.addresses:
        parts = urlsplit(address)
        assert parts.scheme in ("", "data"), address
        assert not parts.netloc, address
    (style,), (script,) = page.of("style"), page.of("script")
    assert "@import" not in style.text
    assert all(part.startswith("#") for part in style.text.split("url(")[1:])
    for way in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "innerHTML", "eval("):
        assert way not in script.text


def test_every_utterance_is_in_the_table_and_on_the_timeline(tmp_path):
    manifest = sample_manifest(150, ("pt", "ar"))
    page = page_of(tmp_path, manifest)
    lines = [line for dub in manifest.dubs for line in dub.utterances]
    assert {outcome_of(line) for line in lines} == set(FitOutcome)  # the sample is worth testing with
    titles = "\n".join(title.text for title in page.of("title"))
    for row, line in zip(page.rows, lines, strict=True):
        assert row.cells[0] == line.id
        assert row.cells[1].startswith(clock(line.slot_start_s, 1))
        assert row.cells[2] == line.source_text
        assert row.cells[3] == line.text or (not line.text and row.cells[3].startswith("original kept"))
        assert row.cells[8].split() == [flag.value for flag in line.flags]
        assert (row.attributes.get("class") == "flagged") == bool(line.flags)
        assert f"{line.id} · " in titles


def test_lines_to_look_at_are_linked_on_top_with_their_flags(tmp_path):
    manifest = sample_manifest(30, ("pt", "ar"))
    [dub, *others] = manifest.dubs
    left = dub.utterances[0].model_copy(update={"flags": (Flag.NOISE,), "text": ""})
    dub = dub.model_copy(update={"utterances": (left, *dub.utterances[1:])})
    manifest = manifest.model_copy(update={"dubs": (dub, *others)})
    page = page_of(tmp_path, manifest)
    wanted = [
        f"#line-{number}-{line.id}"
        for number, each in enumerate(manifest.dubs)
        for line in each.utterances
        if set(line.flags) - {Flag.NOISE}
    ]
    assert len(wanted) > 3
    links = [link.attributes["href"] for link in page.of("a") if link.attributes.get("href", "").startswith("#line-")]
    assert links == wanted
    assert {f"#{row.attributes['id']}" for row in page.rows} >= set(links)
    assert page.rows[0].attributes["data-flags"] == "noise"
    assert page.source.index("to look at") < page.source.index("<video")
    choices = [option.attributes["value"] for option in page.of("option")]
    flags = {flag.value for each in manifest.dubs for line in each.utterances for flag in line.flags}
    assert choices == ["", *sorted(flags)]


def test_texts_carry_their_language_and_direction(tmp_path):
    page = page_of(tmp_path, sample_manifest(8, ("ar",)))
    spoken = page.of("td", lang="ar")
    assert spoken
    assert all(cell.attributes["dir"] == "auto" for cell in [*spoken, *page.of("td", lang="en")])
    assert page.of("html")[0].attributes["lang"] == "en"


def test_a_thousand_utterances_stay_under_two_megabytes(tmp_path):
    write_report(sample_manifest(1000), (), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_bytes()
    assert page.count(b"data-seek=") == 1000
    assert len(page) < 2_000_000


def test_sound_is_embedded_whole(tmp_path):
    page = page_of(tmp_path, sample_manifest(3), AUDIO)
    found = [(player.attributes["src"], player.attributes["data-label"]) for player in page.of("audio")]
    assert found == [
        (f"data:audio/mp4;base64,{base64.b64encode(AUDIO[0].data).decode()}", "Original, English"),
        (f"data:audio/mp4;base64,{base64.b64encode(AUDIO[1].data).decode()}", "Dub, Portuguese"),
    ]
    assert "No sound is embedded" not in page.source


def test_without_sound_the_page_says_why(tmp_path):
    assert "No sound is embedded in this page." in page_of(tmp_path, sample_manifest(3)).source
    write_report(sample_manifest(300), (), tmp_path / "report.html")
    assert "output.report_max_embed_s allows 15:00" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_sound_without_pictures_gets_an_audio_player(tmp_path):
    page = page_of(tmp_path, sample_manifest(3).model_copy(update={"media_file": "talk.m4a"}))
    assert not page.of("video")
    assert page.of("audio", src="talk.m4a")


@pytest.mark.parametrize("targets", [(), ("pt",), ("pt", "ar")])
def test_a_video_without_speech_has_a_sensible_page(tmp_path, targets):
    page = page_of(tmp_path, unchanged_manifest(targets))
    assert page.rows == []
    assert page.of("table", **{"class": "lines"}) == []
    assert [player.attributes["src"] for player in page.of("video")] == ["birdsong.dubbed.mp4"]
    assert FLAG_MEANINGS[Flag.NO_SPEECH] in page.source
    assert page.of("span", **{"class": "status unchanged"})


def test_speech_without_a_single_dubbed_line_has_a_page(tmp_path):
    manifest = sample_manifest(2)
    kept = tuple(
        line.model_copy(update={"text": "", "rung": None, "rate": None, "flags": (Flag.NO_ROOM,)})
        for line in manifest.dubs[0].utterances
    )
    dub = manifest.dubs[0].model_copy(update={"utterances": kept})
    page = page_of(tmp_path, manifest.model_copy(update={"dubs": (dub,)}))
    assert [row.cells[3] for row in page.rows] == ["original kept", "original kept"]


def test_a_failing_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(self: Path, target: Path) -> Path:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_report(sample_manifest(2), (), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# --- figures and timeline


def test_every_flag_and_outcome_is_explained():
    assert set(FLAG_MEANINGS) == set(Flag)
    assert set(OUTCOME_MEANINGS) == set(FitOutcome)


@pytest.mark.parametrize("rung", Rung)
def test_an_outcome_is_the_rung_unless_words_were_lost_or_nothing_said(rung):
    line = sample_manifest(1).dubs[0].utterances[0].model_copy(update={"rung": rung, "text": "dito", "flags": ()})
    expected = FitOutcome.KEPT if rung is Rung.NO_ROOM else FitOutcome(rung.value)
    assert outcome_of(line) is expected
    assert outcome_of(line.model_copy(update={"text": ""})) is FitOutcome.KEPT
    if rung is not Rung.NO_ROOM:
        assert outcome_of(line.model_copy(update={"flags": (Flag.FAST, Flag.CUT)})) is FitOutcome.CUT


@given(
    rates=st.lists(st.floats(0.3, 20.0), min_size=1, max_size=50),
    limits=st.one_of(st.just((None, None)), st.tuples(st.floats(1.0, 2.0), st.floats(1.0, 2.0))),
)
def test_the_histogram_holds_every_line_once(rates, limits):
    template = sample_manifest(1).dubs[0].utterances[0].model_copy(update={"text": "dito", "rung": "natural"})
    figures = figures_of([template.model_copy(update={"rate": rate}) for rate in rates], *limits)
    assert sum(share.percent for share in figures.shares) == pytest.approx(100)
    histogram = figures.rates
    assert histogram is not None
    assert sum(bin.num_lines for bin in histogram.bins) == len(rates)
    assert len(histogram.bins) <= 16
    for bin in histogram.bins:
        inside = [rate for rate in rates if bin.from_value - 1e-4 <= rate < bin.to_value + 1e-4]
        assert len(inside) >= bin.num_lines
        assert histogram.left - 1e-6 <= bin.x
        assert bin.x + bin.width <= histogram.right + 1e-6
    assert all(histogram.left <= mark.x <= histogram.right for mark in histogram.marks)


def test_start_offsets_and_overflow_are_measured_against_the_slot():
    template = sample_manifest(1).dubs[0].utterances[0].model_copy(update={"text": "dito", "rung": "overflow"})
    lines = [
        template.model_copy(
            update={"slot_start_s": 1.0, "slot_end_s": 3.0, "start_s": 1.0 + late_s, "end_s": 3.0 + late_s}
        )
        for late_s in (-0.010, 0.020, 0.300)
    ]
    figures = figures_of(lines, 1.2, 1.4)
    assert figures.start_offset_ms is not None
    assert figures.overflow_s is not None
    assert [figures.start_offset_ms.median, figures.start_offset_ms.largest] == pytest.approx([20.0, 300.0])
    assert [figures.overflow_s.median, figures.overflow_s.largest] == pytest.approx([0.020, 0.300])


@settings(max_examples=25, deadline=None)
@given(num_utterances=st.integers(1, 150), seed=st.integers(0, 1000))
def test_the_timeline_shows_each_second_once_and_inside_its_row(num_utterances, seed):
    manifest = sample_manifest(num_utterances, seed=seed)
    timeline = timeline_of(manifest)
    assert timeline is not None
    assert len(timeline.rows) == math.ceil(manifest.input.duration_s / timeline.row_s)
    marks = [(band, mark) for row in timeline.rows for band, mark in enumerate_marks(row.bands)]
    assert all(mark.left >= 0 and mark.left + mark.width <= 100 + 1e-6 for _, mark in marks)

    def shown_s(band: int, *kinds: str) -> float:
        return sum(mark.width for at, mark in marks if at == band and mark.kind in kinds) * timeline.row_s / 100

    lines = manifest.dubs[0].utterances
    spoken = [line for line in lines if line.text]
    assert shown_s(0, "source") == pytest.approx(sum(s.end_s - s.start_s for s in manifest.segments))
    assert shown_s(1, "said", "over") == pytest.approx(sum(line.end_s - line.start_s for line in spoken))
    assert shown_s(1, "slot", "kept") == pytest.approx(sum(line.slot_end_s - line.slot_start_s for line in lines))
    assert shown_s(1, "over") == pytest.approx(sum(max(0.0, line.end_s - line.slot_end_s) for line in spoken))


def enumerate_marks(bands) -> Iterator[tuple[int, Mark]]:
    for index, band in enumerate(bands):
        for line in band.lines:
            for mark in line.marks:
                yield index, mark


@pytest.mark.parametrize(
    ("seconds", "digits", "text"),
    [
        (0.0, 0, "0:00"),
        (7.4, 0, "0:07"),
        (59.96, 1, "1:00.0"),
        (723.44, 1, "12:03.4"),
        (3723.0, 0, "1:02:03"),
        (3599.99, 1, "1:00:00.0"),
        (-0.01, 1, "0:00.0"),
    ],
)
def test_clock(seconds, digits, text):
    assert clock(seconds, digits) == text


def test_quality_stands_beside_each_line_and_over_all(tmp_path):
    manifest = sample_manifest(12)
    [dub] = manifest.dubs
    checks = {dub.utterances[0].id: [measured(Metric.WER, 0.5, QUALITY), unmeasured(Metric.COSINE, "no <embedding>")]}
    utterances, summary = graded(dub.utterances, "pt", QUALITY, checks)
    dub = dub.model_copy(update={"utterances": utterances, "quality": summary})
    page = page_of(tmp_path, manifest.model_copy(update={"dubs": (dub,)}))
    assert page.rows[0].cells[9].split() == ["0.50", "–"]
    tables = "\n".join(table.text for table in page.of("table"))
    assert "word error rate, heard again" in tables
    assert "syllables a second" in tables
