"""Is the language of a recording found without ``--from``, or is the doubt said?

Speech in ten languages is made by espeak-ng, in two voices each, and heard by whisper-base as a dub hears it. A
recording counts as right, as flagged (``language_uncertain``, with its three best), as wrong, or as refused.
Bound: none is refused, and none is wrong without a flag.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from actors import languages
from actors.engine import make_engine
from actors.errors import ConfigError
from actors.types import ASR_HZ, Samples, TranscribeRequest, Transcript, Window
from cluster.audio.windows import cut_windows
from cluster.config.load import load_config
from cluster.steps.progress import Progress
from cluster.steps.transcribe import Listener
from cluster.streams import ordered_map
from tests.espeak_voice import espeak_speech

TEXTS = {
    "de": (
        "Guten Morgen, heute sprechen wir über das Wetter.",
        "Am Nachmittag wird es regnen, der Wind ist stark.",
    ),
    "fr": ("Bonjour à tous, aujourd'hui nous parlons du temps.", "Cet après-midi il va pleuvoir et le vent sera fort."),
    "es": ("Buenos días, hoy hablamos del tiempo que hace.", "Esta tarde va a llover y el viento será muy fuerte."),
    "it": ("Buongiorno a tutti, oggi parliamo del tempo.", "Nel pomeriggio pioverà e il vento sarà molto forte."),
    "pt": ("Bom dia a todos, hoje vamos falar sobre o tempo.", "À tarde vai chover e o vento estará muito forte."),
    "nl": ("Goedemorgen allemaal, vandaag praten we over het weer.", "Vanmiddag gaat het regenen en waait het hard."),
    "pl": ("Dzień dobry wszystkim, dzisiaj mówimy o pogodzie.", "Po południu będzie padać i wiać silny wiatr."),
    "ru": ("Доброе утро, сегодня мы говорим о погоде.", "После обеда будет дождь и сильный ветер."),
    "tr": ("Günaydın, bugün hava durumundan söz edeceğiz.", "Öğleden sonra yağmur yağacak ve rüzgar sert esecek."),
    "en": ("Good morning, today we are going to talk about the weather.", "In the afternoon it will rain a lot."),
}
VOICES = ("", "+f3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    spoken: str
    voice: str
    chosen: str | None
    outcome: str
    best: tuple[tuple[str, float], ...]


class EnginePool:
    """One loaded engine, asked like a pool."""

    name = "transcription/faster_whisper"

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    async def submit(self, request: TranscribeRequest, *, order: float = 0.0) -> Transcript:
        [result] = await asyncio.to_thread(self._engine.run, [request])
        if not isinstance(result, Transcript):
            raise result.error
        return result


def recording(language: str, voice: str) -> Samples:
    pause = np.zeros(ASR_HZ // 2, np.float32)
    parts = [part for text in TEXTS[language] for part in (espeak_speech(text, language + voice), pause)]
    return np.concatenate([pause, *parts])


async def listen(samples: Samples, target: str, pool: EnginePool, engine: str = "nllb_ct2") -> Listener:
    config = load_config("offline", ["ray.mode=inline", f"translation.engine={engine}"])
    listener = Listener(config, pool, None, (target,), Progress(job="bench"))  # type: ignore[arg-type]

    async def windows() -> AsyncIterator[Window]:
        for window in cut_windows(iter([samples]), config.windows):
            yield window

    max_windows = config.pipeline.max_windows
    async for _ in ordered_map(listener.watch(windows()), listener.transcribe, max_windows):
        pass
    return listener


async def row_of(language: str, voice: str, pool: EnginePool) -> Row:
    try:
        listener = await listen(recording(language, voice), "pt" if language == "en" else "en", pool)
    except ConfigError as error:
        return Row(spoken=language, voice=voice, chosen=None, outcome=f"refused: {error.message}", best=())
    notes, chosen = listener.notes, listener.language
    is_right = chosen is not None and languages.same(chosen, language)
    outcome = "flagged" if notes.is_uncertain else "right" if is_right else "wrong"
    best = tuple((guess.language, round(guess.probability, 3)) for guess in notes.guesses)
    return Row(spoken=language, voice=voice, chosen=chosen, outcome=outcome, best=best)


async def measure() -> list[Row]:
    engine = make_engine("transcription", "faster_whisper", {"model": "base"})
    engine.load()
    rows = []
    for language in TEXTS:
        for voice in VOICES:
            rows.append(await row_of(language, voice, EnginePool(engine)))
            print(f"{language}{voice:4} {rows[-1].chosen} {rows[-1].outcome} {rows[-1].best}", flush=True)
    engine.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = asyncio.run(measure())
    bad = [row for row in rows if row.outcome not in ("right", "flagged")]
    num_right = sum(row.outcome == "right" for row in rows)
    print(f"{num_right} right, {len(rows) - len(bad)} right or flagged, of {len(rows)}")
    if arguments.json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}))
    if bad:
        raise SystemExit(f"every language must be right or flagged; {len(bad)} were not")


if __name__ == "__main__":
    main()
