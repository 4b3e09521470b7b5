"""Are written forms understood as they are read aloud? Numbers, dates, money and units are spoken and heard again.

A sample of each language's table of written forms (tests/unit/actors/spoken) is spoken by the language's voice of the
embedded configuration, once in its spoken form and once as it is written, as the voice reads it by itself. Both are
heard by whisper-base and compared with the spoken form: error rate of the words, spelled numbers and digits alike.
Bound: the spoken form is not misheard more often than the written one in any language.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from actors.engine import make_engine
from actors.spoken import spoken_form
from actors.types import ASR_HZ, PlanRequest, SynthesiseRequest, TranscribeRequest
from cluster.casting.voices import settled, speech_stage
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.quality import hearing_errors

TABLES = Path(__file__).parent.parent / "tests" / "unit" / "actors" / "spoken"
LANGUAGES = ("pt", "en")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    language: str
    written: str
    spoken: str
    heard: str
    wer: float
    heard_as_written: str
    wer_as_written: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--language", action="append", choices=sorted(path.stem for path in TABLES.glob("*.tsv")))
    parser.add_argument("--rows", type=int, default=20, help="rows of each table, evenly chosen")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    config = load_config("offline")
    listener = make_engine("transcription", config.transcription.engine, config.transcription.options)
    listener.load()
    rows = [row for language in args.language or LANGUAGES for row in measured(language, args.rows, config, listener)]
    summary = {language: means(language, rows) for language in dict.fromkeys(row.language for row in rows)}
    for language, (spoken, written) in summary.items():
        ratio = spoken / written if written else float("nan")
        print(f"{language}: spoken form {spoken:.3f} of the words wrong, as written {written:.3f}, ratio {ratio:.2f}")
    if args.json:
        print(json.dumps({"wer": summary, "rows": [asdict(row) for row in rows]}))
    raise SystemExit(0 if all(spoken <= written for spoken, written in summary.values()) else 1)


def measured(language: str, num_rows: int, config: Config, listener: Any) -> list[Row]:
    stage = settled(speech_stage(config, language), language, None)
    voice = make_engine("speech", stage.engine, stage.options)
    voice.load()
    lines = (TABLES / f"{language}.tsv").read_text(encoding="utf-8").splitlines()
    chosen = np.linspace(0, len(lines) - 1, min(num_rows, len(lines))).round().astype(int)
    rows = []
    for index in chosen:
        written = lines[index].split("\t")[0]
        spoken = spoken_form(written, language)
        heard, heard_as_written = (heard_again(text, language, voice, listener) for text in (spoken, written))
        row = Row(
            language=language,
            written=written,
            spoken=spoken,
            heard=heard,
            wer=wrong(spoken, heard, language),
            heard_as_written=heard_as_written,
            wer_as_written=wrong(spoken, heard_as_written, language),
        )
        rows.append(row)
        print(f"{row.wer:.2f} {row.wer_as_written:.2f}  {written}  →  {spoken}  →  {heard}", flush=True)
    voice.close()
    return rows


def heard_again(text: str, language: str, voice: Any, listener: Any) -> str:
    [plan] = voice.run([PlanRequest(text=text, language=language)])
    [clip] = voice.run([SynthesiseRequest(plan=plan, duration_s=plan.natural_s)])
    samples = soxr.resample(clip.samples, clip.sample_hz, ASR_HZ).astype(np.float32)
    padded = np.pad(samples, ASR_HZ // 2)  # a clip without silence in front loses its first word
    [transcript] = listener.run([TranscribeRequest(samples=padded, language=language)])
    return " ".join(segment.text.strip() for segment in transcript.segments)


def wrong(spoken: str, heard: str, language: str) -> float:
    errors = hearing_errors(spoken, heard, language)
    return 0.0 if errors is None else min(1.0, errors.wer)


def means(language: str, rows: Sequence[Row]) -> tuple[float, float]:
    own = [row for row in rows if row.language == language]
    return sum(row.wer for row in own) / len(own), sum(row.wer_as_written for row in own) / len(own)


if __name__ == "__main__":
    main()
