import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from actors.types import Segment, Unit, Word
from cluster import manifest as manifests
from cluster.flags import DEGRADING, Flag
from cluster.manifest import Manifest, SegmentRecord, UnitRecord, status_of
from cluster.steps.speak import flags_of
from cluster.timing.fit import Fit, Rung
from tests.unit.manifests import sample_manifest, unchanged_manifest

SEGMENT = Segment(
    id="s0001-00",
    start_s=1.00004,
    end_s=2.000061,
    text="Olá, mundo.",
    language="pt",
    speaker="speaker0",
    words=(Word(text=" Olá,", start_s=1.00004, end_s=1.5, probability=0.98765),),
    mean_log_probability=-0.123456,
    no_speech_probability=0.0004,
)


@pytest.mark.parametrize("written", [sample_manifest(30, ("pt", "ar")), unchanged_manifest()])
def test_what_is_written_is_read_back(tmp_path, written):
    manifests.write(written, tmp_path / "manifest.json")
    assert manifests.read(tmp_path / "manifest.json") == written


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(text=st.text(), seconds=st.floats(0, 1e6), gain_db=st.none() | st.floats(-60, 60))
def test_any_text_and_number_is_read_back(tmp_path, text, seconds, gain_db):
    base = sample_manifest(1)
    line = base.dubs[0].utterances[0].model_copy(update={"text": text, "end_s": seconds, "gain_db": gain_db})
    written = base.model_copy(update={"dubs": (base.dubs[0].model_copy(update={"utterances": (line,)}),)})
    manifests.write(written, tmp_path / "manifest.json")
    assert manifests.read(tmp_path / "manifest.json") == written


def test_the_file_is_readable_json_in_utf8(tmp_path):
    manifests.write(sample_manifest(3, ("ar",)), tmp_path / "manifest.json")
    raw = (tmp_path / "manifest.json").read_text(encoding="utf-8")
    assert raw.endswith("}\n")
    tree = json.loads(raw)
    assert tree["schema_version"] == manifests.SCHEMA_VERSION
    assert tree["dubs"][0]["utterances"][0]["text"] in raw


def test_a_file_name_that_is_no_utf8_does_not_stop_the_manifest(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    base = sample_manifest(1, input_name=name)
    written = Manifest.model_validate({**dict(base), "media_file": name})
    manifests.write(written, tmp_path / "manifest.json")
    read = manifests.read(tmp_path / "manifest.json")
    assert read == written
    assert read.input.name == read.media_file == "caf\N{REPLACEMENT CHARACTER}.mp4"


def test_a_write_replaces_the_old_file_and_leaves_nothing_aside(tmp_path):
    path = tmp_path / "manifest.json"
    manifests.write(unchanged_manifest(), path)
    manifests.write(sample_manifest(2), path)
    assert manifests.read(path) == sample_manifest(2)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_aside(tmp_path, monkeypatch, failing):
    path = tmp_path / "manifest.json"
    manifests.write(unchanged_manifest(), path)
    before = path.read_bytes()

    def fail(self: Path, *args: object, **options: object) -> None:
        # As on a full disk: some of it is there when the error comes.
        with self.open("a", encoding="utf-8") as half:
            half.write("{")
        raise OSError("no space")

    monkeypatch.setattr(Path, failing, fail)
    with pytest.raises(OSError, match="no space"):
        manifests.write(sample_manifest(2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "manifest.json"
    manifests.write(unchanged_manifest(), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "extra": 1}))
    with pytest.raises(ValidationError, match="extra"):
        manifests.read(path)


# --- status and flags


@pytest.mark.parametrize("flag", Flag)
def test_status_follows_the_flags_of_the_lines(flag):
    line = sample_manifest(1).dubs[0].utterances[0]
    fine, flagged = line.model_copy(update={"flags": ()}), line.model_copy(update={"flags": (Flag.FAST, flag)})
    assert status_of((), [fine]) == "done"
    assert status_of((), [fine, flagged]) == ("degraded" if flag in DEGRADING else "done")


def test_without_speech_the_status_is_unchanged_whatever_else_is_flagged():
    assert status_of((Flag.STREAM_DROPPED, Flag.NO_SPEECH), ()) == "unchanged"


def test_speech_that_could_not_be_transcribed_degrades():
    assert status_of((Flag.TRANSCRIPTION_FAILED, Flag.NO_SPEECH), ()) == "degraded"


@pytest.mark.parametrize("flag", sorted(set(Flag) - {Flag.NO_SPEECH, Flag.TRANSCRIPTION_FAILED}))
def test_other_flags_of_the_input_do_not_degrade_its_lines(flag):
    assert status_of((flag,), ()) == "done"


@pytest.mark.parametrize(("rate", "flags"), [(1.0, []), (1.2, []), (1.2 + 1e-9, []), (1.21, [Flag.FAST])])
def test_only_a_rate_above_the_ordinary_one_is_fast(rate, flags):
    fit = Fit(rung=Rung.FASTER, spoken_s=1.0, duration_s=1.0, rate=rate)
    assert flags_of(fit, ordinary_rate=1.2) == flags


# --- comparison of runs


def test_comparable_leaves_out_what_differs_between_runs_and_modes():
    one = sample_manifest(5)
    other = one.model_copy(
        update={
            "timings": one.timings.model_copy(update={"wall_s": 1.0, "first_utterance_s": None, "pools": ()}),
            "config": {**one.config, "ray": {"mode": "inline"}},
        }
    )
    assert one != other
    assert one.comparable() == other.comparable()
    assert "timings" not in one.comparable()
    assert "ray" not in one.comparable()["config"]
    assert one.config["ray"] == {"mode": "local", "address": None}, "comparing must not change the manifest"


def test_comparable_sees_every_other_difference():
    one = sample_manifest(5)
    line = one.dubs[0].utterances[0]
    changed = line.model_copy(update={"end_s": line.end_s + 0.0001})
    dub = one.dubs[0].model_copy(update={"utterances": (changed, *one.dubs[0].utterances[1:])})
    assert one.comparable() != one.model_copy(update={"dubs": (dub,)}).comparable()
    assert one.comparable() != one.model_copy(update={"config": {**one.config, "fitting": {}}}).comparable()


# --- records


def test_records_keep_ids_and_round_times():
    record = SegmentRecord.of(SEGMENT)
    assert (record.id, record.text, record.language, record.speaker) == ("s0001-00", "Olá, mundo.", "pt", "speaker0")
    assert (record.start_s, record.end_s) == (1.0, 2.0001)
    assert (record.mean_log_probability, record.no_speech_probability) == (-0.123, 0.0)
    (word,) = record.words
    assert (word.text, word.start_s, word.end_s, word.probability) == (" Olá,", 1.0, 1.5, 0.988)
    unit = UnitRecord.of(Unit(id="u0001", segments=(SEGMENT, SEGMENT), room_end_s=3.00001))
    assert unit.segment_ids == ("s0001-00", "s0001-00")
    assert unit.text == "Olá, mundo. Olá, mundo."
    assert unit.room_end_s == 3.0


def test_versions_name_python_and_only_what_is_installed():
    found = manifests.versions([("speech", "hibari"), ("transcription", "tests.standins.echo")])
    assert found["python"].startswith("3.")
    assert "av" in found
    assert "hibari-tts" in found
    assert "faster-whisper" not in found
    assert all(found.values())


def test_a_path_that_is_no_utf8_is_kept_byte_for_byte() -> None:
    path = os.fsdecode(b"/films/caf\xe9.mp4")
    encoded = manifests.encoded_path(path)
    assert encoded == "/films/caf%E9.mp4"
    assert manifests.encoded_path("/films/café.mp4") is None
    record = sample_manifest().input.model_copy(update={"path": path, "encoded_path": encoded})
    again = manifests.InputRecord.model_validate_json(
        record.model_copy(update={"path": "/films/caf\ufffd.mp4"}).model_dump_json()
    )
    assert os.fsencode(again.file) == b"/films/caf\xe9.mp4"
