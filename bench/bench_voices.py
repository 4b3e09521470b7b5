"""Which voice should speak each language? Intelligibility, naturalness, pace and pitch of every voice of an engine.

A dozen sentences of a language are spoken by each of its voices at each scale of the durations that the model
predicts, and heard again by whisper-base. WER is over all words, lower case, without punctuation. Naturalness is
DistillMOS (1 to 5), if that package is installed. Pitch is the median fundamental frequency of the voiced frames.
``--write-pitches`` stores the pitches for casting.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import importlib.util
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt
import soxr

from actors import languages
from actors.engine import make_engine
from actors.types import ASR_HZ, Clip, Plan, PlanRequest
from bench.bench_speech import at_scale, heard, plain, provenance

SENTENCES = {
    "pt": (
        "A padaria da esquina abre antes do nascer do sol.",
        "Ela guardou as cartas antigas dentro de uma caixa azul.",
        "Os alunos visitaram o museu na semana passada.",
        "Não sei se vamos conseguir chegar a tempo.",
        "O cachorro do vizinho latiu durante a noite inteira.",
        "Quanto custa uma passagem para o litoral?",
        "A água do rio estava fria, mas todos quiseram nadar.",
        "Precisamos conversar sobre o orçamento do próximo ano.",
        "Meu avô construiu esta casa com as próprias mãos.",
        "Que surpresa boa encontrar você por aqui!",
        "As informações estão disponíveis na página da universidade.",
        "Depois do almoço, eles foram caminhar pelo parque.",
    ),
    "es": (
        "La panadería de la esquina abre antes del amanecer.",
        "Ella guardó las cartas antiguas en una caja azul.",
        "Los alumnos visitaron el museo la semana pasada.",
        "No sé si vamos a llegar a tiempo.",
        "El perro del vecino ladró durante toda la noche.",
        "¿Cuánto cuesta un billete para la costa?",
        "El agua del río estaba fría, pero todos quisieron nadar.",
        "Tenemos que hablar del presupuesto del próximo año.",
        "Mi abuelo construyó esta casa con sus propias manos.",
        "¡Qué buena sorpresa encontrarte por aquí!",
        "La información está disponible en la página de la universidad.",
        "Después de comer, salieron a caminar por el parque.",
    ),
    "fr": (
        "La boulangerie du coin ouvre avant le lever du soleil.",
        "Elle a rangé les vieilles lettres dans une boîte bleue.",
        "Les élèves ont visité le musée la semaine dernière.",
        "Je ne sais pas si nous allons arriver à temps.",
        "Le chien du voisin a aboyé pendant toute la nuit.",
        "Combien coûte un billet pour la côte ?",
        "L'eau de la rivière était froide, mais tout le monde voulait nager.",
        "Nous devons parler du budget de l'année prochaine.",
        "Mon grand-père a construit cette maison de ses propres mains.",
        "Quelle bonne surprise de vous trouver ici !",
        "Les informations sont disponibles sur la page de l'université.",
        "Après le déjeuner, ils sont allés marcher dans le parc.",
    ),
    "it": (
        "Il forno all'angolo apre prima dell'alba.",
        "Lei ha messo le vecchie lettere in una scatola blu.",
        "Gli studenti hanno visitato il museo la settimana scorsa.",
        "Non so se riusciremo ad arrivare in tempo.",
        "Il cane del vicino ha abbaiato per tutta la notte.",
        "Quanto costa un biglietto per il mare?",
        "L'acqua del fiume era fredda, ma tutti volevano nuotare.",
        "Dobbiamo parlare del bilancio del prossimo anno.",
        "Mio nonno ha costruito questa casa con le proprie mani.",
        "Che bella sorpresa trovarti da queste parti!",
        "Le informazioni sono disponibili sulla pagina dell'università.",
        "Dopo pranzo sono andati a camminare nel parco.",
    ),
    "en": (
        "The bakery on the corner opens before the sun comes up.",
        "She kept the old letters inside a blue box.",
        "The students went to the museum last week.",
        "I do not know whether we can get there in time.",
        "The dog next door barked all night long.",
        "How much is a ticket to the coast?",
        "The water of the river was cold, but everyone wanted to swim.",
        "We need to talk about the budget for next year.",
        "My grandfather built this house with his own hands.",
        "What a nice surprise to find you here!",
        "The information is available on the page of the university.",
        "After lunch they went for a walk in the park.",
    ),
    "hi": (
        "कोने की दुकान सूरज निकलने से पहले खुलती है।",
        "उसने पुरानी चिट्ठियाँ नीले डिब्बे में रखीं।",
        "छात्र पिछले हफ्ते संग्रहालय गए थे।",
        "मुझे नहीं पता कि हम समय पर पहुँचेंगे।",
        "पड़ोसी का कुत्ता सारी रात भौंकता रहा।",
        "इस किताब की कीमत कितनी है?",
        "नदी का पानी ठंडा था, लेकिन सब तैरना चाहते थे।",
        "हमें अगले साल के बजट के बारे में बात करनी है।",
        "मेरे दादा ने यह घर अपने हाथों से बनाया।",
        "आपसे यहाँ मिलकर बहुत खुशी हुई!",
        "सारी जानकारी विश्वविद्यालय के पन्ने पर है।",
        "खाने के बाद वे बगीचे में घूमने गए।",
    ),
}
PITCHES_FILE = Path(__file__).parent.parent / "cluster" / "casting" / "pitches.json"
FRAME_S = 0.04
MIN_HZ, MAX_HZ = 60.0, 400.0
VOICED = 0.5
"""Least height of the autocorrelation's peak in a voiced frame."""

Score = Callable[[Sequence[Clip]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    engine: str
    voice: str
    language: str
    scale: float
    """Factor on the durations that the model predicts."""
    num_lines: int
    wer: float | None
    """None with ``--no-words``."""
    characters_per_s: float
    naturalness: float | None
    """Mean DistillMOS; None without that package."""
    pitch_hz: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="kokoro")
    parser.add_argument("--options", type=json.loads, default={}, help="the engine's options, as JSON")
    parser.add_argument("--language", action="append", choices=list(SENTENCES), help="default: all of the engine")
    parser.add_argument("--voice", action="append", help="default: all of the engine")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0])
    parser.add_argument("--lines", type=int, default=12, help="sentences of each language")
    parser.add_argument("--no-words", action="store_true", help="do not listen, and judge no naturalness")
    parser.add_argument("--write-pitches", action="store_true", help=f"update {PITCHES_FILE.name}")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    listener = None if args.no_words else make_engine("transcription", "faster_whisper", {})
    if listener is not None:
        listener.load()
    engine: Any = make_engine("speech", args.engine, args.options)
    engine.load()
    score = None if args.no_words else naturalness_score()
    results = []
    for language in args.language or SENTENCES:
        spoken = [voice for voice in engine.voices if languages.best_match(language, voice.languages) is not None]
        for voice in spoken:
            if not args.voice or voice.name in args.voice:
                texts = SENTENCES[language][: args.lines]
                results += bench_voice(engine, args.engine, voice, language, texts, args.scales, listener, score)
    if args.write_pitches:
        write_pitches(results)
    if args.json:
        print(json.dumps({"provenance": provenance(), "results": [asdict(result) for result in results]}))


def bench_voice(
    engine: Any,
    name: str,
    voice: Any,
    language: str,
    texts: Sequence[str],
    scales: Sequence[float],
    listener: Any,
    score: Score | None,
) -> list[Result]:
    plans: list[Plan] = engine.run([PlanRequest(text=text, language=language, voice=voice.name) for text in texts])
    results = []
    for scale in scales:
        clips: list[Clip] = engine.run([at_scale(plan, scale / voice.natural_scale) for plan in plans])
        result = Result(
            engine=name,
            voice=voice.name,
            language=language,
            scale=scale,
            num_lines=len(texts),
            wer=None if listener is None else word_error_rate(texts, clips, language, listener),
            characters_per_s=sum(map(len, texts)) / sum(clip.duration_s for clip in clips),
            naturalness=None if score is None else score(clips),
            pitch_hz=median_pitch_hz(clips),
        )
        results.append(result)
        mos = "-" if result.naturalness is None else f"{result.naturalness:.2f}"
        wer = "-" if result.wer is None else f"{result.wer:.3f}"
        print(
            f"{name:7} {language} {voice.name:14} {scale:5.2f}  WER {wer}  "
            f"{result.characters_per_s:5.1f} characters/s  naturalness {mos}  {result.pitch_hz:5.1f} Hz",
            flush=True,
        )
    return results


def word_error_rate(texts: Sequence[str], clips: Sequence[Clip], language: str, listener: Any) -> float:
    said, understood = [plain(text) for text in texts], [plain(heard(clip, language, listener)) for clip in clips]
    return float(jiwer.wer(said, understood))


def naturalness_score() -> Score | None:
    """The mean DistillMOS of clips; None if the package is not installed."""
    if importlib.util.find_spec("distillmos") is None:
        return None
    import distillmos
    import torch

    model = distillmos.ConvTransformerSQAModel()
    model.eval()

    def score(clips: Sequence[Clip]) -> float:
        with torch.no_grad():
            return statistics.fmean(float(model(torch.from_numpy(at_16_khz(clip))[None])) for clip in clips)

    return score


def at_16_khz(clip: Clip) -> npt.NDArray[np.float32]:
    samples: npt.NDArray[np.float32] = soxr.resample(clip.samples, clip.sample_hz, ASR_HZ).astype(np.float32)
    return samples


def median_pitch_hz(clips: Sequence[Clip]) -> float:
    return float(np.median(np.concatenate([pitches_hz(at_16_khz(clip)) for clip in clips])))


def pitches_hz(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The pitch of each voiced frame: the first high peak of its normalised autocorrelation."""
    size, hop = round(FRAME_S * ASR_HZ), round(FRAME_S * ASR_HZ / 4)
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2 * size)[::hop]
    frames = frames[np.square(frames).mean(axis=1) > np.square(samples).mean() / 4]
    shortest, longest = round(ASR_HZ / MAX_HZ), round(ASR_HZ / MIN_HZ)
    found = []
    for frame in frames.astype(np.float64):
        start = frame[:size]
        lags = np.lib.stride_tricks.sliding_window_view(frame, size)[: longest + 1]
        correlation = lags @ start / np.sqrt(np.maximum(np.square(lags).sum(axis=1) * np.square(start).sum(), 1e-12))
        high = np.flatnonzero(correlation[shortest:] > max(VOICED, 0.9 * correlation[shortest:].max())) + shortest
        if high.size:
            run = high[: int(np.argmax(np.diff(high, append=2 * longest) > 1)) + 1]  # the first peak's lags
            found.append(ASR_HZ / run[np.argmax(correlation[run])])
    return np.array(found)


def write_pitches(results: Sequence[Result]) -> None:
    """Put the pitch of each voice, at its first scale, into the table of casting."""
    table = json.loads(PITCHES_FILE.read_text("utf-8")) if PITCHES_FILE.is_file() else {}
    pitches = dict(table.get("pitch_hz", {}))
    for result in reversed(results):
        pitches[f"{result.engine}/{result.voice}"] = round(result.pitch_hz, 1)
    table = {
        "source": "bench/bench_voices.py --write-pitches: median of the voiced frames of a sentence or a greeting",
        "pitch_hz": dict(sorted(pitches.items())),
    }
    PITCHES_FILE.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
