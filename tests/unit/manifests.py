"""Manifests to test with, as a talk would give them."""

from random import Random

from actors.types import media_time
from cluster.flags import Flag
from cluster.manifest import (
    CandidateRecord,
    DubRecord,
    InputRecord,
    Manifest,
    PoolRecord,
    SegmentRecord,
    Timings,
    TrackRecord,
    UnitRecord,
    UtteranceRecord,
    WordRecord,
    status_of,
)
from cluster.timing.fit import Rung
from cluster.verdicts import video_verdict

ENGLISH = (
    "Good morning, and thank you all for coming so early.",
    "Today I want to talk about rivers.",
    "A river is never the same twice, and that is what makes it hard to map.",
    "We measured the water every ten minutes for three years.",
    "Most of the sensors were lost in the first flood.",
    "So we built them again, smaller and cheaper.",
    "What surprised us was how quickly the fish came back.",
    "Nobody had expected that.",
    "If you look at the second chart, you can see the moment when the dam was opened.",
    "Within a week the whole valley had changed colour.",
)
TRANSLATIONS = {
    "pt": (
        "Bom dia, e obrigado a todos por virem tão cedo.",
        "Hoje quero falar sobre rios.",
        "Um rio nunca é o mesmo duas vezes, e é isso que o torna difícil de mapear.",
        "Medimos a água a cada dez minutos durante três anos.",
        "A maioria dos sensores perdeu-se na primeira cheia.",
        "Então construímo-los de novo, menores e mais baratos.",
        "O que nos surpreendeu foi a rapidez com que os peixes voltaram.",
        "Ninguém esperava por isso.",
        "Se olharem para o segundo gráfico, podem ver o momento em que a barragem foi aberta.",
        "Numa semana, todo o vale tinha mudado de cor.",
    ),
    "ar": (
        "صباح الخير، وشكرا لكم جميعا على حضوركم المبكر.",
        "اليوم أريد أن أتحدث عن الأنهار.",
        "النهر لا يكون هو نفسه مرتين، وهذا ما يجعل رسم خريطته صعبا.",
        "قسنا الماء كل عشر دقائق لمدة ثلاث سنوات.",
        "فقدنا معظم أجهزة الاستشعار في الفيضان الأول.",
        "لذلك بنيناها من جديد، أصغر وأرخص.",
        "ما أدهشنا هو السرعة التي عادت بها الأسماك.",
        "لم يتوقع أحد ذلك.",
        "إذا نظرتم إلى الرسم الثاني فسترون لحظة فتح السد.",
        "خلال أسبوع تغير لون الوادي كله.",
    ),
}
CONFIG = {
    "ray": {"mode": "local", "address": None},
    "transcription": {"engine": "faster_whisper", "options": {"model": "base"}},
    "translation": {"engine": "bergamot", "options": {}},
    "speech": {"engine": "auto", "by_language": {"pt": {"engine": "kokoro"}, "en": {"engine": "hibari"}}},
    "fitting": {"gap_s": 0.05, "ordinary_rate": 1.2, "max_rate": 1.4, "min_room_s": 0.15},
    "output": {"audio_bits_per_s": 160_000, "report_audio_bits_per_s": 40_000, "report_max_embed_s": 900.0},
}
GAP_S = 0.05
HIGHEST_RATE = 1.4


def sample_manifest(
    num_utterances: int = 40, targets: tuple[str, ...] = ("pt",), seed: int = 0, input_name: str = "rivers.mp4"
) -> Manifest:
    """A talk of ``num_utterances`` sentences, in which each rung and most flags occur once it is long enough."""
    random = Random(seed)
    segments = _segments(num_utterances, random)
    duration_s = media_time(segments[-1].end_s + 1.5)
    rooms_s = [*(segment.start_s for segment in segments[1:]), duration_s]
    units = tuple(
        UnitRecord(id=f"u{index:04d}", segment_ids=(segment.id,), text=segment.text, room_end_s=room_end_s)
        for index, (segment, room_end_s) in enumerate(zip(segments, rooms_s, strict=True))
    )
    dubs = tuple(
        DubRecord(
            language=target,
            utterances=tuple(
                _utterance(target, unit, segment, random) for unit, segment in zip(units, segments, strict=True)
            ),
            subtitles=(f"{target}.srt", f"{target}.vtt"),
        )
        for target in targets
    )
    return Manifest(
        status=status_of((), [utterance for dub in dubs for utterance in dub.utterances]),
        flags=(),
        verdict=video_verdict([utterance.flags for dub in dubs for utterance in dub.utterances], 0.25),
        input=_input(input_name, duration_s, "en"),
        media_file="rivers.dubbed.mp4",
        segments=tuple(segments),
        units=units,
        dubs=dubs,
        dropped_streams=(),
        config=CONFIG,
        versions={"python": "3.11.2", "raydub": "0.1.0", "ray": "2.60.0", "av": "18.1.0"},
        timings=Timings(
            wall_s=duration_s / 2.5,
            first_utterance_s=4.2,
            realtime_factor=2.5,
            driver_peak_bytes=310_000_000,
            pools=tuple(
                PoolRecord(
                    name=name,
                    num_items=num_items,
                    num_failed=0,
                    num_batches=num_items,
                    num_lost_replicas=0,
                    engine_s=9.1,
                )
                for name, num_items in (
                    ("transcription/faster_whisper", num_utterances // 5 + 1),
                    ("translation/bergamot", num_utterances),
                    ("speech/kokoro", 2 * num_utterances),
                )
            ),
        ),
    )


def unchanged_manifest(targets: tuple[str, ...] = ("pt",)) -> Manifest:
    """Of a video in which nobody speaks."""
    return Manifest(
        status=status_of((Flag.NO_SPEECH,), ()),
        flags=(Flag.NO_SPEECH,),
        input=_input("birdsong.mp4", 61.0, None),
        media_file="birdsong.dubbed.mp4",
        segments=(),
        units=(),
        dubs=tuple(DubRecord(language=target, utterances=(), subtitles=()) for target in targets),
        dropped_streams=(),
        config=CONFIG,
        versions={"python": "3.11.2", "raydub": "0.1.0"},
        timings=Timings(
            wall_s=3.1, first_utterance_s=None, realtime_factor=19.7, driver_peak_bytes=300_000_000, pools=()
        ),
    )


def _input(name: str, duration_s: float, language: str | None) -> InputRecord:
    return InputRecord(
        name=name,
        format="mov,mp4,m4a,3gp,3g2,mj2",
        duration_s=duration_s,
        num_bytes=round(duration_s * 180_000),
        audio_track=TrackRecord(number=0, codec="aac", channels=2, sample_hz=48_000, language="en"),
        language=language,
        language_probability=None if language is None else 0.98,
    )


def _segments(num_segments: int, random: Random) -> list[SegmentRecord]:
    segments: list[SegmentRecord] = []
    now_s = 0.8
    for index in range(num_segments):
        text = ENGLISH[index % len(ENGLISH)]
        # English is spoken at 14 to 18 characters a second.
        end_s = now_s + len(text) / random.uniform(14, 18)
        words = text.split()
        word_s = (end_s - now_s) / len(words)
        segments.append(
            SegmentRecord(
                id=f"s{index // 8:04d}-{index % 8:02d}",
                start_s=media_time(now_s),
                end_s=media_time(end_s),
                text=text,
                language="en",
                speaker="speaker0",
                mean_log_probability=-0.21,
                no_speech_probability=0.01,
                words=tuple(
                    WordRecord(
                        text=word,
                        start_s=media_time(now_s + position * word_s),
                        end_s=media_time(now_s + (position + 1) * word_s),
                        probability=0.97,
                    )
                    for position, word in enumerate(words)
                ),
            )
        )
        now_s = end_s + random.choice((0.1, 0.25, 0.4, 0.8, 1.6, 3.0))
    return segments


def _utterance(target: str, unit: UnitRecord, segment: SegmentRecord, random: Random) -> UtteranceRecord:
    index = ENGLISH.index(segment.text)
    translation = TRANSLATIONS[target][index]
    failed = random.random() < 0.04
    slot_s, room_s = segment.end_s - segment.start_s, unit.room_end_s - GAP_S - segment.start_s
    natural_s = slot_s * random.uniform(0.75, 1.6)
    spoken_s = min(natural_s, room_s)
    text, rate, flags = translation, max(1.0, natural_s / room_s), []
    if rate > HIGHEST_RATE:
        text, rate = translation.rsplit(" ", 2)[0], HIGHEST_RATE
        flags = [Flag.FAST, Flag.CUT]
    elif rate > 1.2:
        flags = [Flag.FAST]
    if natural_s <= room_s:
        rung = Rung.NATURAL if natural_s <= slot_s else Rung.OVERFLOW
    else:
        rung = Rung.STRETCHED if rate > 1.3 else Rung.FASTER
    return UtteranceRecord(
        id=f"{target}:{unit.id}",
        unit_id=unit.id,
        segment_id=segment.id,
        speaker="speaker0",
        voice=None if failed else "pf_dora",
        source_text=segment.text,
        text="" if failed else text,
        slot_start_s=segment.start_s,
        slot_end_s=segment.end_s,
        room_end_s=unit.room_end_s,
        start_s=segment.start_s,
        end_s=segment.end_s if failed else media_time(segment.start_s + spoken_s),
        rung=None if failed else rung,
        rate=None if failed else round(rate, 4),
        stretch=None if failed else round(rate / 1.3 if rung is Rung.STRETCHED else 1.0, 4),
        gain_db=None if failed else round(random.uniform(-4, 4), 2),
        candidates=(CandidateRecord(text=translation, score=-0.4, natural_s=media_time(natural_s)),),
        flags=(Flag.SPEECH_FAILED,) if failed else tuple(flags),
        error="speech must be finite samples; the engine returned others" if failed else None,
    )
