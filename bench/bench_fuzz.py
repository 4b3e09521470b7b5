"""Hostile bytes for every reader of strangers' files: does any of them crash, hang, or fail without words?

    python bench/bench_fuzz.py [--minutes 10] [--only media] [--seed 0] [--keep DIR] [--json]

Each reader gets mutations of small valid inputs for so many minutes: media through probe, decode, mux and extract in
the sandbox; subtitles; manifests of batches and of dubs; configurations; the service its requests; webhooks and
downloads the answers of their servers. What a reader takes is fine, and so is one of the project's own errors in one
line. Everything else is a finding: another exception, an answer of status 500, a process of the sandbox that ends by a
signal, a private server reached, more than ``MAX_CPU_S`` of computing. Inputs that were findings go to ``--keep``.
Exit status 1 with any.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from actors.errors import DubbingError
from bench.fuzz_network import Answers, Service, answer_seeds, request_seeds
from cluster.batch.items import jobs_of, read_items
from cluster.config.load import dump_yaml, load_config
from cluster.media import sandbox
from cluster.media.config import MediaConfig
from cluster.media.mux import SourceText
from cluster.steps.from_manifest import read_manifest_source
from cluster.subtitles.config import SubtitleConfig
from cluster.subtitles.parse import read_subtitles
from tests.media import AudioSpec, SubtitleSpec, VideoSpec, make_media, tone
from tests.unit.manifests import sample_manifest

MAX_CPU_S = 5.0
SERVICE_CPU_S = 30.0
"""The service loads what it needs while it answers, and dubs what it has accepted."""
MEDIA = MediaConfig(max_open_cpu_s=20, max_cpu_ratio=1.0, max_duration_s=600.0)
CRASH = re.compile(r"ends its process with status|its process failed with")
NUMBERS = tuple(
    number.to_bytes(size, order)
    for size, numbers in ((2, (0, 1, 2**15 - 1, 2**16 - 1)), (4, (0, 1, 2**31 - 1, 2**32 - 1)), (8, (0, 2**63 - 1)))
    for number in numbers
    for order in ("big", "little")
)
TOKENS = (
    *(
        b"00:00:01,000 --> 00:00:00,500",
        b"99:99:99.999",
        b"-->",
        b"<v ",
        b"{\\an8}",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
    ),
    *(b"2024-13-45", b"1" * 5000, b"&a [*a, *a]", b"!!python/object:os.system", b"<<: *a", b"[" * 2000, b"{" * 2000),
    *(b"null", b"true", b"-0", b"1e999", b"NaN", b'"', b"\\ud800", b": ", b"- ", b"\t", b"\n" * 3, b"../", b"file://"),
)


@dataclass(kw_only=True)
class Reader:
    """A reader of files, and valid files to begin with, by name."""

    read: Callable[[Path], object]
    seeds: Mapping[str, bytes]
    is_text: bool = True
    context: AbstractContextManager[None] = field(default_factory=nullcontext)
    """Open while the reader reads."""
    max_cpu_s: float = MAX_CPU_S


@dataclass(kw_only=True)
class Outcome:
    """The results of one reader."""

    num_inputs: int = 0
    num_taken: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    max_cpu_s: float = 0.0


def mutated(data: bytes, other: bytes, chance: random.Random, *, is_text: bool) -> bytes:
    """A copy with some changes: bits, numbers or words, parts left out, doubled, moved, or of another file."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(changed) + 1)
        size = min(chance.choice((1, 4, 16, 256)), len(changed) - at)
        match chance.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                number = chance.choice(NUMBERS)
                changed[at : at + len(number)] = number
            case 2:
                del changed[at : at + size]
            case 3:
                changed[at:at] = changed[at : at + size] * chance.choice((1, 2, 50))
            case 4:
                start = chance.randrange(len(other) + 1)
                changed[at : at + size] = other[start : start + chance.choice((16, 256, 4096))]
            case 5 if is_text:
                changed[at:at] = chance.choice(TOKENS)
            case 6 if chance.random() < 0.2:
                del changed[at:]
            case _:
                changed[at : at + size] = chance.randbytes(size)
    return bytes(changed)


def fuzz(name: str, reader: Reader, minutes: float, seed: int, keep: Path | None) -> Outcome:
    """Mutate the reader's seeds for so long."""
    chance, outcome, names = random.Random(f"{seed}-{name}"), Outcome(), sorted(reader.seeds)
    ends_s = time.monotonic() + minutes * 60
    with reader.context, tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < ends_s:
            of, other = chance.choice(names), chance.choice(names)
            data = mutated(reader.seeds[of], reader.seeds[other], chance, is_text=reader.is_text)
            path = Path(folder) / of
            path.write_bytes(data)
            found = _finding(reader, path, outcome)
            outcome.num_inputs += 1
            if found is not None:
                outcome.findings[found] += 1
                if keep is not None and outcome.findings[found] == 1:
                    (keep / f"{name}-{len(outcome.findings)}-{of}").write_bytes(data)
    return outcome


def _finding(reader: Reader, path: Path, outcome: Outcome) -> str | None:
    started_s = time.process_time()
    found = None
    try:
        reader.read(path)
        outcome.num_taken += 1
    except DubbingError as error:
        if "\n" in error.message or not error.message.strip():
            found = f"{type(error).__name__} in several lines or none: {error.message[:200]!r}"
        elif CRASH.search(error.message):
            found = f"{path.suffix}: {error.message.replace(str(path), 'FILE')}"
    except Exception as error:
        found = f"{type(error).__name__}: {_last_line(error)}"
    cpu_s = time.process_time() - started_s
    outcome.max_cpu_s = max(outcome.max_cpu_s, cpu_s)
    if found is None and cpu_s > reader.max_cpu_s:
        found = f"{path.suffix}: more than {reader.max_cpu_s:g} s of computing"
    return found


def _last_line(error: Exception) -> str:
    """The end of the message and the line of code that raised it: equal ones are one finding."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    text = (str(error).strip().splitlines() or [""])[-1]
    return f"{re.sub(r'[0-9]+', '0', text)[:150]} ({where})"


def read_media(path: Path) -> None:
    """Every step of a dub that opens its source."""
    info = sandbox.inspect(path, MEDIA)
    plan = sandbox.plan_output(info, MEDIA)
    for track in info.audio[:2]:
        for _ in sandbox.decode_audio(info, track, hz=16_000, channels="mono", config=MEDIA):
            pass
    source = SourceText(track=info.audio[0], language="en")
    sandbox.mux(info, [], path.with_name(f"out{plan.suffix}"), source=source, config=MEDIA)
    sandbox.extract(info, path.with_name("track.mka"), info.audio[0].index, with_video=False, config=MEDIA)


def media_seeds() -> dict[str, bytes]:
    sound = AudioSpec(samples=tone(1.0))
    video = VideoSpec(duration_s=1.0)
    cues = SubtitleSpec(cues=[(0.1, 0.6, "Good morning.")], language="en")
    made: dict[str, Mapping[str, Sequence[object]]] = {
        "a.mp4": {"video": [video], "audio": [sound], "subtitles": [cues]},
        "a.mkv": {"video": [video], "audio": [AudioSpec(samples=tone(1.0), codec="flac"), sound], "subtitles": [cues]},
        "a.mov": {"video": [video], "audio": [AudioSpec(samples=tone(1.0), codec="pcm_s16le")]},
        "a.ts": {"video": [video], "audio": [AudioSpec(samples=tone(1.0), codec="mp2")]},
        "a.webm": {"audio": [AudioSpec(samples=tone(1.0), codec="libopus")]},
        "a.mka": {"audio": [AudioSpec(samples=tone(1.0), codec="libmp3lame")]},
    }
    with tempfile.TemporaryDirectory() as folder:
        return {name: make_media(Path(folder) / name, **parts).read_bytes() for name, parts in made.items()}  # type: ignore[arg-type]


def subtitle_seeds() -> dict[str, bytes]:
    srt = (
        "1\n00:00:01,000 --> 00:00:02,500\n<i>Good</i> morning.\n\n"
        "2\n00:00:03,000 --> 00:00:04,000\nANNA: [sighs] Yes.\n"
    )
    vtt = "WEBVTT\n\nSTYLE\n::cue {}\n\n00:01.000 --> 00:02.500 align:start\n<v Anna>Good <b>morning</b>.\n\nNOTE no\n"
    ass = (
        "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname\nStyle: Default,Arial\n\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:01.00,0:00:02.50,Default,Anna,0,0,0,,{\\an8}Good\\Nmorning.\n"
    )
    texts = {"a.srt": srt * 3, "a.vtt": vtt, "a.ass": ass, "ru.srt": srt.replace("Good morning", "Доброе утро")}
    encoded = {name: text.encode() for name, text in texts.items()}
    return encoded | {"wide.srt": srt.encode("utf-16"), "page.srt": texts["ru.srt"].encode("cp1251")}


def readers() -> dict[str, Reader]:
    config = load_config()
    rows = [
        {"source": "s3://in/talk.mp4", "to": ["pt"], "from": "en", "voices": {"pt": "pm_alex"}, "priority": 10},
        {"source": "film.mkv", "to": ["pt"], "settings": {"mixing": {"duck_db": -18}}, "name": "film", "speakers": 2},
    ]
    batches = {
        "a.jsonl": "\n".join(map(json.dumps, rows)).encode(),
        "a.csv": b'source,to,from,voices,audio_track\ntalk.mp4,"pt,",en,"{""pt"": ""pm_alex""}",0\nb.mp4,pt,en,,1\n',
    }
    manifest = sample_manifest(4).model_dump_json(indent=1).encode()
    settings = dump_yaml(config).encode()
    service, answers = Service(), Answers()
    small = b"extends: offline\nfitting: {max_rate: 1.3}\nspeech:\n  by_language:\n    pt: {engine: piper}\n"

    def read_batch(path: Path) -> None:
        jobs_of(read_items(str(path)), "out", config)

    def read_dub(path: Path) -> None:
        read_manifest_source(path).check(config)

    return {
        "media": Reader(read=read_media, seeds=media_seeds(), is_text=False),
        "subtitles": Reader(
            read=lambda path: read_subtitles(path, 60.0, SubtitleConfig(), "ru"), seeds=subtitle_seeds()
        ),
        "batches": Reader(read=read_batch, seeds=batches),
        "manifests": Reader(read=read_dub, seeds={"manifest.json": manifest}),
        "configs": Reader(read=lambda path: load_config(str(path)), seeds={"a.yaml": settings, "b.yaml": small}),
        "http": Reader(read=service.read, seeds=request_seeds(), context=service, max_cpu_s=SERVICE_CPU_S),
        "webhooks": Reader(read=answers.read, seeds=answer_seeds(), context=answers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for each reader")
    parser.add_argument("--only", choices=("media", "subtitles", "batches", "manifests", "configs", "http", "webhooks"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that are findings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable()  # of repairs
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    chosen = {name: reader for name, reader in readers().items() if options.only in (None, name)}
    outcomes = {}
    for name, reader in chosen.items():
        outcome = outcomes[name] = fuzz(name, reader, options.minutes, options.seed, options.keep)
        if not options.json:
            print(
                f"{name:10} {outcome.num_inputs} inputs, {outcome.num_taken} taken, at most {outcome.max_cpu_s:.2f} s "
                f"of computing here; findings: {len(outcome.findings)}",
                flush=True,
            )
            for found, times in outcome.findings.most_common():
                print(f"  {times:6} × {found}", flush=True)
    if options.json:
        print(json.dumps({name: vars(outcome) for name, outcome in outcomes.items()}))
    raise SystemExit(any(outcome.findings for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
