"""Does joe sound as clear through Coqui as through Piper, and how fast is hosting against Coqui's own call? One core.

wer: 50 sentences at natural pace, heard by whisper-base; over all words, lower case, without punctuation.
It must be at most 2 points above Piper's.
speed: CPU time for the same sentences at the same pace by Coqui (``Vits.inference``, one at a time, as
its API calls it, token ids given) over that of the engine (text to plan to clip). It must be at least 1.
plan: CPU time of planning over that of speaking.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import jiwer
import soxr

from actors.engine import Engine, make_engine
from actors.types import ASR_HZ, Clip, Plan, PlanRequest, SynthesiseRequest, TranscribeRequest, Transcript

MOST_WER_ABOVE_PIPER = 0.02
LEAST_SPEED_RATIO = 1.0
BATCH_SIZES = (1, 8, 32)
NUM_ROUNDS = 3

SENTENCES = (
    "The bakery on the corner opens before the sun comes up.",
    "She left her umbrella on the bus and had to walk home in the rain.",
    "Could you tell me where the nearest pharmacy is?",
    "We have been waiting for this moment since last summer.",
    "The engineer checked every bolt on the bridge twice.",
    "My grandmother kept her letters in a small wooden box.",
    "If the meeting runs late, please start dinner without me.",
    "The river was so clear that we could see the stones at the bottom.",
    "He promised to call, but the phone stayed silent all evening.",
    "There is a hole in the fence behind the old barn.",
    "Nobody knew who had painted the door green.",
    "The children built a tower of books and laughed when it fell.",
    "Our train was delayed because of snow on the line.",
    "You should drink more water when the weather is this hot.",
    "The museum is closed on Mondays and on public holidays.",
    "I would like a table for four people near the window.",
    "The pilot told the passengers to fasten their seat belts.",
    "A large brown dog was sleeping in front of the shop.",
    "They moved to the coast to be closer to their daughter.",
    "The soup needs a little more salt and a lot more pepper.",
    "Scientists have found water under the ice of that moon.",
    "Please put the keys back where you found them.",
    "The last page of the book was missing.",
    "It took us three hours to climb to the top of the hill.",
    "He has never been good at remembering names.",
    "The teacher wrote the answer on the board and waited.",
    "Most of the apples had already fallen from the tree.",
    "What time does the library close on Friday?",
    "The new road will make the journey much shorter.",
    "Her brother plays the violin in a small orchestra.",
    "Do not forget to turn off the lights before you leave.",
    "The farmer sold his horses and bought a tractor.",
    "We could hear the music from the other side of the lake.",
    "The doctor said that the wound would heal in two weeks.",
    "Every morning he reads the newspaper on the balcony.",
    "The price of bread has gone up again this year.",
    "She opened the envelope slowly, as if it might break.",
    "There were more people at the concert than we expected.",
    "The boat turned around when the wind grew stronger.",
    "I have lived in this street for more than twenty years.",
    "The police asked the driver a few simple questions.",
    "Winter came early, and the birds had gone by October.",
    "Can we talk about this tomorrow after lunch?",
    "The company plans to open an office in the north.",
    "He put two spoons of sugar in his coffee and smiled.",
    "The bridge was built by hand more than a century ago.",
    "Somebody had left a red bicycle at the gate.",
    "They were tired, but nobody wanted to go to bed.",
    "The film starts at eight, so we should hurry.",
    "Thank you for helping me carry these heavy boxes.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clarity:
    engine: str
    wer: float
    num_words: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    batch: int
    engine_sentences_per_cpu_s: float
    coqui_sentences_per_cpu_s: float
    ratio: float
    """Median of the rounds."""
    plan_share: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=len(SENTENCES), help="how many are heard; the first ones")
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    coqui = _loaded("speech", "coqui")
    speeds = measure_speeds(coqui, args.rounds)
    for speed in speeds:
        print(
            f"batch {speed.batch:2}: {speed.engine_sentences_per_cpu_s:5.2f} sentences a CPU second, Coqui's call "
            f"{speed.coqui_sentences_per_cpu_s:5.2f}: {speed.ratio:.2f} x; planning {speed.plan_share:.1%} of speaking"
        )
    clarity = measure_clarity({"coqui": coqui, "piper": _loaded("speech", "piper")}, SENTENCES[: args.sentences])
    for result in clarity:
        print(f"{result.engine}: WER {result.wer:.2%} of {result.num_words} words")
    if args.json:
        results = {"clarity": [asdict(result) for result in clarity], "speed": [asdict(speed) for speed in speeds]}
        print(json.dumps(_provenance() | results))
    ours, pipers = (result.wer for result in clarity)
    if ours > pipers + MOST_WER_ABOVE_PIPER or min(speed.ratio for speed in speeds) < LEAST_SPEED_RATIO:
        sys.exit("a bound was missed: WER at most 2 points above Piper's, at least as fast as Coqui's own call")


# --- clarity


def measure_clarity(engines: dict[str, Engine[Any, Any]], sentences: Sequence[str]) -> list[Clarity]:
    listener = _loaded("transcription", "faster_whisper")
    wanted = [_words(sentence) for sentence in sentences]
    results = []
    for name, engine in engines.items():
        heard = [_words(_heard(listener, clip)) for clip in _spoken(engine, sentences)]
        wer = jiwer.wer(wanted, heard)
        results.append(Clarity(engine=name, wer=round(wer, 4), num_words=sum(len(words.split()) for words in wanted)))
    return results


def _heard(listener: Engine[Any, Any], clip: Clip) -> str:
    samples = soxr.resample(clip.samples, clip.sample_hz, ASR_HZ)
    (transcript,) = listener.run([TranscribeRequest(samples=samples, language="en")])
    if not isinstance(transcript, Transcript):
        sys.exit(f"the listener failed: {transcript}")
    return " ".join(segment.text for segment in transcript.segments)


def _words(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.lower()))


# --- speed


def measure_speeds(engine: Engine[Any, Any], num_rounds: int) -> list[Speed]:
    """Both ways take turns, so that whatever else the machine does falls on both."""
    stock = _stock_model()
    tokens = [engine.model.tokenise(sentence, engine.voices[0])[0] for sentence in SENTENCES]  # type: ignore[attr-defined]
    _spoken(engine, SENTENCES[:2])
    _speak_by_coqui(stock, tokens[:2])
    speeds = []
    for size in BATCH_SIZES:
        batch = SENTENCES[:size] if size > 1 else SENTENCES[:8]
        rounds = []
        for _ in range(num_rounds):
            plan_s, speak_s = _engine_seconds(engine, batch, size)
            rounds.append((plan_s, speak_s, _speak_by_coqui(stock, tokens[: len(batch)])))
        plan_s, speak_s, coqui_s = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(theirs / (plan + speak) for plan, speak, theirs in rounds)
        speeds.append(
            Speed(
                batch=size,
                engine_sentences_per_cpu_s=round(len(batch) / (plan_s + speak_s), 3),
                coqui_sentences_per_cpu_s=round(len(batch) / coqui_s, 3),
                ratio=round(ratio, 3),
                plan_share=round(plan_s / speak_s, 4),
            )
        )
    return speeds


def _engine_seconds(engine: Engine[Any, Any], sentences: Sequence[str], size: int) -> tuple[float, float]:
    """CPU seconds of planning and of speaking, ``size`` at a time."""
    plan_s = speak_s = 0.0
    for at in range(0, len(sentences), size):
        start = time.process_time()
        plans = _plans(engine, sentences[at : at + size])
        planned = time.process_time()
        _clips(engine, plans)
        plan_s += planned - start
        speak_s += time.process_time() - planned
    return plan_s, speak_s


def _stock_model() -> Any:
    """Coqui's model as Coqui loads it, at the voice's calibrated pace and without noise in its durations."""
    import torch

    from actors.speech._coqui import checkpoint
    from actors.speech.coqui import Engine as Coqui

    torch.set_num_threads(1)
    engine = make_engine("speech", "coqui", {})
    assert isinstance(engine, Coqui)
    model = checkpoint.load_vits(engine.fetch_checkpoint()).eval()
    model.inference_noise_scale_dp = 0.0
    model.length_scale = engine.voices[0].natural_scale
    return model


def _speak_by_coqui(model: Any, tokens: Sequence[Any]) -> float:
    """CPU seconds, one sentence at a time."""
    import torch

    start = time.process_time()
    for one in tokens:
        model.inference(torch.from_numpy(one)[None])["model_outputs"].numpy()
    return time.process_time() - start


# --- common


def _loaded(task: Any, name: str) -> Engine[Any, Any]:
    engine = make_engine(task, name, {})
    engine.load()
    return engine


def _spoken(engine: Engine[Any, Any], sentences: Sequence[str]) -> list[Clip]:
    return _clips(engine, _plans(engine, sentences))


def _plans(engine: Engine[Any, Any], sentences: Sequence[str]) -> list[Plan]:
    plans = engine.run([PlanRequest(text=sentence, language="en") for sentence in sentences])
    good = [plan for plan in plans if isinstance(plan, Plan)]
    if len(good) < len(plans):
        sys.exit(f"planning failed: {plans}")
    return good


def _clips(engine: Engine[Any, Any], plans: Sequence[Plan]) -> list[Clip]:
    clips = engine.run([SynthesiseRequest(plan=plan, duration_s=plan.natural_s) for plan in plans])
    good = [clip for clip in clips if isinstance(clip, Clip)]
    if len(good) < len(clips):
        sys.exit(f"speaking failed: {clips}")
    return good


def _provenance() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or None,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one used",
        "versions": {name: version(name) for name in ("torch", "coqui-tts", "faster-whisper", "piper-tts", "numpy")}
        | {"python": platform.python_version()},
        "warm_up": "two sentences each",
    }


if __name__ == "__main__":
    main()
