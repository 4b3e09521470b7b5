"""Rows of a manifest: what they say, and which row is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from actors.errors import ConfigError
from cluster.batch.items import Item, jobs_of, read_items
from cluster.batch.run import items_of
from cluster.config.load import ITEM_SETTINGS, item_config, load_config
from cluster.config.schema import Config

ROW = {
    "source": "s3://bucket/talk.mp4",
    "to": ["pt"],
    "from": "en",
    "voices": {"pt": "pf_dora"},
    "target_subtitles": {"pt": "https://host/pt.srt"},
    "settings": {"mixing": {"duck_db": -18}},
    "priority": 3,
}


@pytest.fixture
def config() -> Config:
    return load_config("offline", ["ray.mode=inline"])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        header = list(dict.fromkeys(key for row in rows for key in row))
        lines = [",".join(header)] + [",".join(_cell(row.get(key, "")) for key in header) for row in rows]
        path.write_text("\ufeff" + "\n".join(lines) + "\n")
    return path


def _cell(value: Any) -> str:
    text = ",".join(value) if isinstance(value, list) else json.dumps(value) if isinstance(value, dict) else str(value)
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_all_formats_say_the_same(tmp_path: Path, suffix: str) -> None:
    rows = [ROW, {**ROW, "source": "b.mp4", "to": ["en"], "from": "pt"}]
    items = read_items(str(write(tmp_path / f"batch.{suffix}", rows)))
    assert items == [Item.model_validate(row) for row in rows]


def test_a_map_column_of_parquet(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "source": ["a.mp4"],
            "voices": pyarrow.array([[("pt", "x")]], pyarrow.map_(pyarrow.string(), pyarrow.string())),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "batch.parquet")
    [item] = read_items(str(tmp_path / "batch.parquet"))
    assert item.voices == {"pt": "x"}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({}, "field source must be given"),
        ({"source": ""}, "must be a path or a URL; found ''"),
        ({**ROW, "langs": "pt"}, "field langs is unknown; known here: source, to, from"),
        ({**ROW, "priority": "high"}, "field priority must be valid"),
        ({**ROW, "to": ["xx-!"]}, "field to.0"),
        ({**ROW, "name": "../up"}, "field name must be valid"),
        ({**ROW, "voices": "{"}, "must be a JSON mapping"),
        ({**ROW, "settings": {"translation": {"engine": "os"}}}, "translation.engine must hold for all inputs"),
        ({**ROW, "settings": {"transcription": {"options": {"model": "/x"}}}}, "transcription must hold for all"),
        ({**ROW, "settings": {"speech": {"by_language": {"pt": {"engine": "os"}}}}}, "speech.by_language must hold"),
        ({**ROW, "settings": {"fetch": {"allow_private": True}}}, "fetch must hold for all inputs"),
        ({**ROW, "settings": {"media": {"max_open_bytes": 2**40}}}, "media must hold for all inputs"),
        ({**ROW, "settings": {"subtitles": {"max_read_bytes": 2**40}}}, "subtitles.max_read_bytes must hold"),
        ({**ROW, "settings": {"pipeline": {"max_windows": 999}}}, "pipeline must hold for all inputs"),
        ({**ROW, "settings": {"store": {"url": "/tmp/x"}}}, "store must hold for all inputs"),
        ({**ROW, "settings": '{"ray": {"mode": "local"}}'}, "ray must hold for all inputs"),
        ({**ROW, "glossary": {"pt": {"a": {"b": "c"}}}}, "field glossary"),
        ({"source": "a\0b.mp4", "to": ["pt"]}, "field source must be valid"),
        ({"source": "https://[/a.mp4", "to": ["pt"]}, "field source must be valid"),
        ({**ROW, "target_subtitles": {"pt": "\0"}}, "field target_subtitles.pt must be valid"),
        ({**ROW, "settings": {"mix\ud800ing": {}}}, "texts must be Unicode"),
        ({**ROW, "mix\ud800ing": {}}, "unable to parse raw data as a unicode string"),
    ],
)
def test_a_wrong_row_is_named_by_its_number(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    path = write(tmp_path / "batch.jsonl", [ROW, row])
    with pytest.raises(ConfigError, match="row 2") as caught:
        read_items(str(path))
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("batch.jsonl", "{", "must be a readable jsonl file"),
        ("batch.jsonl", "[" * 100_000, "must be a readable jsonl file"),
        ("batch.jsonl", "1" * 5000, "must be a readable jsonl file"),
        ("batch.jsonl", "", "has none"),
        ("batch.csv", "source,to\na.mp4,pt,extra\n", "cells without a header"),
        ("batch.parquet", "no parquet", "must be a readable parquet file"),
        ("batch.txt", "a.mp4", "must end in .csv"),
    ],
)
def test_files_that_are_no_manifest(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_items(str(tmp_path / name))
    assert says in caught.value.message


def test_a_job_knows_what_is_elsewhere(config: Config) -> None:
    [job] = jobs_of([Item.model_validate(ROW)], "gs://results", config)
    assert job.source.name == "talk.mp4"
    assert job.remote is not None
    assert (job.remote.source, job.remote.out) == ("s3://bucket/talk.mp4", "gs://results/talk")
    assert job.remote.target_subtitles == {"pt": "https://host/pt.srt"}
    assert job.target_subtitles == {}
    assert job.priority == 3
    own = item_config(config, job.settings)
    assert own.speech.voices == {"pt": "pf_dora"}
    assert own.mixing.duck_db == -18
    assert item_config(own, {}) is own


def test_an_engine_for_one_item_keeps_no_replicas(config: Config) -> None:
    own = item_config(
        config,
        {
            "translation": {"options": {"glossary": {"pt": {"a": "b"}}}, "pool": {"replicas": 3}},
            "embedding": {"pool": {"num_cpus": 2}},
            "speech": {"voices": {"pt": "pf_dora"}, "by_language": {"pt": {"options": {"speed": 2}}}},
        },
    )
    assert (own.translation.pool.smallest, own.translation.pool.largest) == (0, 3)
    assert own.embedding.pool.smallest == own.speech.by_language["pt"].pool.smallest == 0
    assert own.transcription == config.transcription
    assert own.speech.by_language["en"] == config.speech.by_language["en"]
    assert item_config(config, {"translation": {"num_candidates": 2}}).translation.pool == config.translation.pool


def test_a_job_that_is_all_here(config: Config, tmp_path: Path) -> None:
    [job] = jobs_of([Item(source="talk.mp4", to=("pt",))], str(tmp_path), config)
    assert job.remote is None
    assert job.out == tmp_path / "talk"


@pytest.mark.parametrize(
    ("sources", "folders"),
    [
        (["call.wav", "call.opus", "call", "talk.mp4"], ["call.wav", "call.opus", "call", "talk"]),
        (["a/call.wav", "b/call.mp3"], ["call.wav", "call.mp3"]),
        (["s3://bucket/call.wav", "call.mp3"], ["call.wav", "call.mp3"]),
    ],
)
def test_inputs_that_share_a_stem_get_folders_with_their_suffixes(
    config: Config, sources: list[str], folders: list[str]
) -> None:
    jobs = jobs_of([Item(source=source, to=("pt",)) for source in sources], "out", config)
    assert [job.out.name for job in jobs] == folders


def test_a_name_given_in_a_manifest_is_kept(config: Config) -> None:
    items = [Item(source="call.wav", name="call", to=("pt",)), Item(source="call.mp3", to=("pt",))]
    assert [job.out.name for job in jobs_of(items, "out", config)] == ["call", "call.mp3"]


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([{"source": "a/x.mp4"}, {"source": "b/x.mp4"}], "inputs must differ in name"),
        ([{"source": "a.mp4"}, {"source": "b.mp4", "to": ["fr"]}], "b.mp4: translation engine bergamot must support"),
        ([{"source": "a.mp4", "to": ["de"], "target_subtitles": {"de": "de.srt"}}], "speech.by_language must name"),
        ([{"source": "a.mp4", "voices": {"pt": "nobody"}}], "a voice for pt must be one of pf_dora, "),
        ([{"source": "a.mp4", "to": []}], "must have target languages"),
        ([{"source": "a.mp4", "settings": {"mixing": {"duck": 1}}}], "did you mean 'duck_db'"),
        ([{"source": "a.mp4", "glossary": {"pt": {"a": "b"}}}], "glossary"),
    ],
)
def test_items_that_cannot_be_done(config: Config, items: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        jobs_of([Item.model_validate({"to": ["pt"], **item}) for item in items], "out", config)
    assert says in caught.value.message


def test_a_row_may_set_nothing_that_names_code_files_or_limits(config: Config) -> None:
    """A new section is refused until somebody has thought about it."""
    refused = {"profile", "ray", "autoscaling", "media", "transcription", "embedding", "pipeline", "drivers", "store"}
    refused |= {"price", "fetch", "serve", "speakers", "diarization", "trace"}
    assert set(type(config).model_fields) - set(ITEM_SETTINGS) == refused
    for section in refused:
        with pytest.raises(ValidationError, match="must hold for all inputs"):
            Item.model_validate({**ROW, "settings": {section: {}}})


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/hostname",
        "local:///etc/hostname",
        "zip://a.mp4::http://127.0.0.1/a.zip",
        "s3://bucket/a.zip::http://127.0.0.1/",
        "S3://bucket/a::file:///etc/hostname",
        "http://127.0.0.1/a.mp4",
        "ftp://127.0.0.1/a.mp4",
        "memory://a/b.mp4",
        "github://org:repo@main/a.mp4",
    ],
)
@pytest.mark.parametrize("field", ["source", "subtitles", "target_subtitles"])
def test_urls_that_no_input_may_have(config: Config, location: str, field: str) -> None:
    given = {"pt": location} if field == "target_subtitles" else location
    item = Item.model_validate({"source": "a.mp4", "to": ["pt"], "from": "en", field: given})
    with pytest.raises(ConfigError, match="an input's URL must"):
        jobs_of([item], "out", config)


def test_an_operator_may_allow_other_file_systems() -> None:
    config = load_config("offline", ["ray.mode=inline", "fetch.buckets=[memory]"])
    assert jobs_of([Item(source="memory://a/b.mp4", to=("pt",))], "out", config)
    assert jobs_of([Item(source="https://host/a::b.mp4", to=("pt",))], "out", config), "a plain name over https"


def test_a_file_whose_name_is_no_text_is_an_item_but_of_no_batch(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"a\xff.mp4")
    file.touch()
    assert Item(source=str(file)).source == str(file)
    with pytest.raises(ConfigError, match="is not; rename it"):
        items_of([str(tmp_path)], "pt", None)
