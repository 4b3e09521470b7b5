"""Coqui's VITS as hosted here: joe's real weights, and tiny checkpoints for what joe doesn't have."""

from __future__ import annotations

import functools
import itertools
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.engine import make_engine
from actors.errors import ConfigError, EngineError, EngineLoadError, ItemError
from actors.types import Clip, ItemFailure, Plan, PlanRequest, SynthesiseRequest

pytest.importorskip("TTS")
torch = pytest.importorskip("torch")

from TTS.tts.configs.vits_config import VitsArgs  # noqa: E402
from TTS.vocoder.models.hifigan_generator import HifiganGenerator  # noqa: E402

from actors.speech._coqui import checkpoint, waveform  # noqa: E402
from actors.speech._coqui import vits as _vits  # noqa: E402
from actors.speech._planned.base import PlannedSpeech  # noqa: E402
from actors.speech._planned.model import Passage  # noqa: E402
from actors.speech._planned.voices import Voice  # noqa: E402
from actors.speech.coqui import Engine  # noqa: E402
from actors.speech.piper import JOE  # noqa: E402
from tests.tiny_speech import make_vits  # noqa: E402

TEXTS = (
    "Yes.",
    "The harbour was quiet before the ships arrived.",
    "We kept the windows closed, and nobody asked why. It was cold; the fire had gone out long before midnight!",
    "Good morning!",
)
BATCH_TOLERANCE = 1e-4
"""Of full scale: sums in another order, as a batch of another shape takes them."""


def loaded(**options: Any) -> Engine:
    engine = make_engine("speech", "coqui", options)
    assert isinstance(engine, Engine)
    engine.load()
    return engine


def planned(engine: Engine, *texts: str, language: str = "en", voice: str | None = None) -> list[Plan]:
    results = engine.run([PlanRequest(text=text, language=language, voice=voice) for text in texts])
    plans = [result for result in results if isinstance(result, Plan)]
    assert len(plans) == len(texts), results
    return plans


def spoken(engine: Engine, plans: list[Plan], rate: float = 1.0) -> list[Clip]:
    results = engine.run([SynthesiseRequest(plan=plan, duration_s=_length_s(plan, rate)) for plan in plans])
    clips = [result for result in results if isinstance(result, Clip)]
    assert len(clips) == len(plans), results
    return clips


def tokenised(engine: PlannedSpeech, text: str, voice: Voice) -> list[np.ndarray[Any, Any]]:
    return engine.model.tokenise(text, voice)


def predicted(engine: Engine, tokens: np.ndarray[Any, Any], voice: Voice) -> np.ndarray[Any, Any]:
    (frames,) = engine.model.predict([Passage(tokens=tokens, voice=voice)])
    assert not isinstance(frames, ItemFailure), frames
    return frames


def samples_of(
    engine: Engine, tokens: np.ndarray[Any, Any], frames: np.ndarray[Any, Any], voice: Voice
) -> np.ndarray[Any, Any]:
    (samples,) = engine.model.speak([Passage(tokens=tokens, voice=voice)], [frames.astype(np.int64)])
    assert not isinstance(samples, ItemFailure), samples
    return samples


def _length_s(plan: Plan, rate: float) -> float:
    return min(max(plan.natural_s * rate, plan.shortest_s), plan.longest_s)


@pytest.fixture(scope="module")
def joe() -> Iterator[Engine]:
    engine = loaded()
    yield engine
    engine.close()


# --- joe


@pytest.mark.parametrize("rate", [0.7, 0.85, 1.0, 1.2, 1.4])
def test_a_clip_has_its_planned_length_to_one_frame(joe: Engine, rate: float) -> None:
    for text in TEXTS[1:3]:
        (plan,) = planned(joe, text)
        assert plan.shortest_s <= rate * plan.natural_s <= plan.longest_s
        (clip,) = spoken(joe, [plan], rate)
        assert clip.duration_s == pytest.approx(rate * plan.natural_s, abs=plan.frame_samples / plan.sample_hz)


def test_a_batch_of_plans_is_the_plans_alone(joe: Engine) -> None:
    for plan, text in zip(planned(joe, *TEXTS), TEXTS, strict=True):
        (alone,) = planned(joe, text)
        assert plan.natural_s == alone.natural_s
        for chunk, other in zip(plan.chunks, alone.chunks, strict=True):
            np.testing.assert_array_equal(chunk.tokens, other.tokens)
            np.testing.assert_array_equal(chunk.frames, other.frames)


def test_a_batch_of_clips_is_the_clips_alone(joe: Engine) -> None:
    plans = planned(joe, *TEXTS)
    for clip, plan in zip(spoken(joe, plans, 1.1), plans, strict=True):
        (alone,) = spoken(joe, [plan], 1.1)
        np.testing.assert_allclose(clip.samples, alone.samples, rtol=0, atol=BATCH_TOLERANCE)


def test_lengths_are_those_of_the_piper_engine(joe: Engine) -> None:
    piper = make_engine("speech", "piper", {})
    piper.load()
    for plan, other in zip(
        planned(joe, *TEXTS), piper.run([PlanRequest(text=text, language="en") for text in TEXTS]), strict=True
    ):
        assert isinstance(other, Plan)
        assert (plan.natural_s, plan.shortest_s, plan.longest_s) == (other.natural_s, other.shortest_s, other.longest_s)


def test_without_noise_samples_are_those_of_pipers_own_model(joe: Engine) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(JOE.locate()), providers=["CPUExecutionProvider"])
    piper = make_engine("speech", "piper", {})
    assert isinstance(piper, PlannedSpeech)
    piper.load()
    quiet = loaded(noise_scale=0.0)
    for text in TEXTS[:2]:
        (tokens,) = tokenised(quiet, text, quiet.voices[0])
        (piper_tokens,) = tokenised(piper, text, piper.voices[0])
        assert len(tokens) == len(piper_tokens)
        (expected,) = session.run(
            None,
            {
                "input": piper_tokens[None],
                "input_lengths": np.array([len(piper_tokens)]),
                "scales": np.array([0.0, 1.0, 0.0], np.float32),
            },
        )
        frames = predicted(quiet, tokens, quiet.voices[0])
        samples = samples_of(quiet, tokens, frames, quiet.voices[0])
        assert samples.shape == expected.reshape(-1).shape
        np.testing.assert_allclose(samples, expected.reshape(-1), rtol=0, atol=1e-3)


def test_the_noise_is_the_items_own(joe: Engine) -> None:
    first, second = planned(joe, TEXTS[1], TEXTS[1])
    (one,), (other,) = spoken(joe, [first]), spoken(joe, [second])
    np.testing.assert_array_equal(one.samples, other.samples)


def test_what_is_kept_of_planned_lines_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vits, "MAX_CACHED_TOKENS", 100)
    network, lines, frames = _tiny(tmp_path, _vits.SequentialNetwork)
    assert isinstance(network, _vits.SequentialNetwork)
    before = network.speak(lines, frames)
    network.durations(lines)
    network.durations(lines[:1])
    assert 0 < sum(prior.durations.shape[1] for prior in network._cached.values()) == network._cached_tokens <= 100
    for samples, expected in zip(network.speak(lines, frames), before, strict=True):
        np.testing.assert_allclose(samples, expected, rtol=0, atol=BATCH_TOLERANCE)


# --- how a GPU would be driven, on this CPU


def test_padding_and_neighbours_do_not_reach_an_item_in_a_bucket(tmp_path: Path) -> None:
    network, lines, frames = _tiny(tmp_path, _vits.BucketedNetwork)
    together = network.speak(lines, frames)
    for line, chosen, samples in zip(lines, frames, together, strict=True):
        (alone,) = network.speak([line], [chosen])
        assert not isinstance(samples, ItemFailure)
        assert len(samples) == int(chosen.sum()) * 256
        np.testing.assert_allclose(samples, alone, rtol=0, atol=BATCH_TOLERANCE)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 13])
def test_a_group_is_filled_up_to_a_power_of_two(tmp_path: Path, number: int) -> None:
    network, lines, frames = _tiny(tmp_path, _vits.BucketedNetwork)
    many, chosen = [lines[at % len(lines)] for at in range(number)], [frames[at % len(lines)] for at in range(number)]
    sizes, encode, decode = list[int](), network._encode, network._decode

    def encoded(model: Any, tokens: torch.Tensor, *args: Any) -> Any:
        sizes.append(len(tokens))
        return encode(model, tokens, *args)

    def decoded(model: Any, mean: torch.Tensor, *args: Any) -> Any:
        sizes.append(len(mean))
        return decode(model, mean, *args)

    network._encode, network._decode = encoded, decoded
    durations, samples = network.durations(many), network.speak(many, chosen)
    assert set(sizes) == {1 << (number - 1).bit_length()}
    assert [len(row) for row in durations] == [len(line.tokens) for line in many]
    for line, row, heard in zip(many, chosen, samples, strict=True):
        (alone,) = network.speak([line], [row])
        np.testing.assert_allclose(heard, alone, rtol=0, atol=BATCH_TOLERANCE)


@pytest.mark.parametrize("cost", [1.0, 500.0, 512.0, 513.0, 900.0, 5000.0, 8192.0, 9000.0, 20_000.0])
def test_full_groups_have_a_power_of_two_of_lines_within_the_limit(cost: float) -> None:
    share = _vits.power_of_two_share(cost, 16_384)
    number = max(1, int(16_384 // share))
    assert share >= cost
    assert number.bit_count() == 1
    assert number <= _vits.MAX_ITEMS
    assert number * cost <= 16_384 or number == 1


def test_durations_are_computed_in_full_precision_on_a_gpu(tmp_path: Path) -> None:
    """TF32, cuDNN's default, would make a plan depend on its batch."""
    network, lines, _ = _tiny(tmp_path, _vits.BucketedNetwork)
    precisions, encode, before = [], network._encode, torch.backends.cudnn.conv.fp32_precision

    def recorded(*args: Any) -> Any:
        precisions.append(torch.backends.cudnn.conv.fp32_precision)
        return encode(*args)

    network._encode = recorded
    network.durations(lines)
    assert set(precisions) == {"ieee"}
    assert torch.backends.cudnn.conv.fp32_precision == before != "ieee"


@pytest.mark.parametrize(("length", "rounded"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_lengths_are_rounded_up_to_a_bucket(length: int, rounded: int) -> None:
    assert _vits.round_up(length, 64) == rounded


def test_a_bucket_differs_from_the_exact_length_only_at_the_end(tmp_path: Path) -> None:
    network, lines, frames = _tiny(tmp_path, _vits.BucketedNetwork)
    exact, _, _ = _tiny(tmp_path, _vits.SequentialNetwork)
    reach_samples = waveform.decoder_reach_frames(_tiny_args(tmp_path)) * 256
    for a, b in zip(network.speak(lines, frames), exact.speak(lines, frames), strict=True):
        np.testing.assert_allclose(a[:-reach_samples], b[:-reach_samples], rtol=0, atol=BATCH_TOLERANCE)


@pytest.mark.parametrize(("precision", "at_least_db"), [("float16", 45.0), ("bfloat16", 25.0)])
def test_a_decoder_in_half_precision_stays_close(joe: Engine, precision: str, at_least_db: float) -> None:
    half = loaded(precision=precision)
    for plan in planned(joe, TEXTS[1]):
        (full,), (rough,) = spoken(joe, [plan]), spoken(half, [plan])
        error = np.square(full.samples - rough.samples).mean()
        assert 10 * np.log10(np.square(full.samples).mean() / error) > at_least_db


@pytest.mark.no_cover  # tracing doubles the time of torch's own compiler
def test_a_compiled_engine_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``fullgraph`` refuses a host sync or anything else that would split a compiled model."""
    # Without code generation, which takes minutes; what could differ is what is compiled.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True))
    folder = str(make_vits(tmp_path / "vits", speakers=("ana", "bob"), languages=("en", "pt-br")))
    plain, compiled = loaded(model=folder), loaded(model=folder, compile=True)
    texts = TEXTS[:2]
    plans, others = planned(plain, *texts), planned(compiled, *texts)
    assert [plan.natural_s for plan in plans] == [other.natural_s for other in others]
    for clip, same in zip(spoken(plain, plans), spoken(compiled, others), strict=True):
        np.testing.assert_allclose(clip.samples, same.samples, rtol=0, atol=BATCH_TOLERANCE)


def _tiny(
    folder: Path, kind: type[_vits.Network], **tiny: Any
) -> tuple[_vits.Network, list[_vits.EncodedLine], list[np.ndarray[Any, np.dtype[np.int64]]]]:
    make_vits(folder / "vits", **tiny)
    vits = checkpoint.load_vits(_checkpoint(folder / "vits"))
    _, speakers = checkpoint.speaker_table(vits)
    network = kind(
        vits,
        speakers,
        device=torch.device("cpu"),
        decoder_dtype=torch.float32,
        noise_scale=0.667,
        compiled=False,
    )
    rng = np.random.default_rng(1)
    lines = [
        _vits.EncodedLine(tokens=rng.integers(1, 40, size), speaker=index % 2, language=index % 2, seed=index)
        for index, size in enumerate([3, 40, 17, 90])
    ]
    return network, lines, [rng.integers(1, 6, len(line.tokens)) for line in lines]


def _checkpoint(folder: Path) -> checkpoint.Checkpoint:
    found = checkpoint.find(str(folder))
    assert found is not None
    return found


def _tiny_args(folder: Path) -> Any:
    return checkpoint.load_vits(_checkpoint(folder / "vits")).args


# --- the waveform decoder


@pytest.mark.parametrize("kind", ["1", "2"])
@pytest.mark.parametrize("conditioned", [False, True])
@pytest.mark.parametrize("rates", [((8, 8, 4), (16, 16, 8)), ((5, 4, 2), (11, 8, 4)), ((3, 2), (7, 2))])
def test_the_decoder_is_coquis_in_either_form(
    kind: str, conditioned: bool, rates: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    decoder = _generator(kind, conditioned, *rates)
    latent, speaker = torch.randn(2, 6, 9), torch.randn(2, 4, 1) if conditioned else None
    with torch.inference_mode():
        expected = decoder(latent, g=speaker)[:, 0]
        torch.testing.assert_close(waveform.waveform(decoder, latent, speaker), expected, rtol=0, atol=1e-5)
        waveform.channels_last(decoder)
        torch.testing.assert_close(waveform.waveform(decoder, latent, speaker), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["1", "2"])
def test_audio_depends_on_no_frame_beyond_the_reach(kind: str) -> None:
    rates, kernels = (8, 8, 4), (16, 16, 8)
    decoder = _generator(kind, False, rates, kernels)
    args = VitsArgs(
        resblock_type_decoder=kind,
        resblock_kernel_sizes_decoder=[3, 5],
        resblock_dilation_sizes_decoder=DILATIONS[kind],
        upsample_rates_decoder=list(rates),
        upsample_kernel_sizes_decoder=list(kernels),
    )
    reach, middle = waveform.decoder_reach_frames(args), 60
    latent = torch.randn(1, 6, 2 * middle)
    changed = latent.clone()
    changed[:, :, middle] += 1
    with torch.inference_mode():
        differs = (waveform.waveform(decoder, latent, None) != waveform.waveform(decoder, changed, None))[0]
    frames = np.flatnonzero(differs.numpy()) // 256
    assert middle - reach <= frames.min()
    assert frames.max() <= middle + reach
    assert frames.max() - frames.min() > reach


DILATIONS = {"1": [[1, 3, 5], [1, 2, 3]], "2": [[1, 3], [2, 6]]}


def _generator(kind: str, conditioned: bool, rates: tuple[int, ...], kernels: tuple[int, ...]) -> Any:
    torch.manual_seed(0)
    decoder = HifiganGenerator(
        6, 1, kind, DILATIONS[kind], [3, 5], kernels, 16, rates,
        inference_padding=0, cond_channels=4 if conditioned else 0, conv_post_bias=False,
        conv_pre_weight_norm=False, conv_post_weight_norm=False,
    )  # fmt: skip
    return _vits._stripped(decoder)


# --- against Coqui's own way through the model


@pytest.mark.parametrize("stochastic", [True, False])
@pytest.mark.parametrize("speakers", [(), ("ana", "bob")])
@pytest.mark.parametrize("languages", [(), ("en", "pt-br")])
def test_durations_and_audio_are_coquis(
    tmp_path: Path, stochastic: bool, speakers: tuple[str, ...], languages: tuple[str, ...]
) -> None:
    folder = make_vits(tmp_path, speakers=speakers, languages=languages, stochastic=stochastic)
    stock = checkpoint.load_vits(_checkpoint(folder)).eval()
    stock.inference_noise_scale = stock.inference_noise_scale_dp = 0.0
    engine = loaded(model=str(folder), noise_scale=0.0)
    for voice, (row, language) in itertools.product(engine.voices, enumerate(languages or ("en",))):
        narrowed = engine.catalogue.choose(language, voice.name)
        (tokens,) = tokenised(engine, "A little test, of this!", narrowed)
        expected = stock.inference(
            torch.from_numpy(tokens)[None],
            {
                "x_lengths": torch.tensor([len(tokens)]),
                "speaker_ids": torch.tensor([speakers.index(voice.name)]) if speakers else None,
                "language_ids": torch.tensor([row]) if languages else None,
                "d_vectors": None,
                "durations": None,
            },
        )
        frames = predicted(engine, tokens, narrowed)
        np.testing.assert_array_equal(frames, expected["durations"][0, 0].numpy())
        samples = samples_of(engine, tokens, frames, narrowed)
        np.testing.assert_allclose(samples, expected["model_outputs"][0, 0].numpy(), rtol=0, atol=BATCH_TOLERANCE)


def test_speakers_known_by_vectors_sound_as_coquis(tmp_path: Path) -> None:
    folder = make_vits(tmp_path, speakers=("zoe", "ana"), d_vectors=True)
    stock = checkpoint.load_vits(_checkpoint(folder)).eval()
    stock.inference_noise_scale = stock.inference_noise_scale_dp = 0.0
    engine = loaded(model=str(folder), noise_scale=0.0)
    assert {voice.name for voice in engine.voices} == {"zoe", "ana"}
    for voice in engine.voices:
        (tokens,) = tokenised(engine, "A test.", voice)
        vector = torch.tensor(stock.speaker_manager.get_mean_embedding(voice.name)).float()[None]
        expected = stock.inference(torch.from_numpy(tokens)[None], {"d_vectors": vector})["model_outputs"][0, 0]
        samples = samples_of(engine, tokens, predicted(engine, tokens, voice), voice)
        np.testing.assert_allclose(samples, expected.numpy(), rtol=0, atol=BATCH_TOLERANCE)


def test_a_batch_mixes_speakers_and_languages(tmp_path: Path) -> None:
    engine = loaded(model=str(make_vits(tmp_path, speakers=("ana", "bob"), languages=("en", "pt-br"))))
    requests = [
        PlanRequest(text="A test of it.", language=language, voice=voice)
        for language in ("en", "pt")
        for voice in ("ana", "bob")
    ]
    plans = [plan for plan in engine.run(requests) if isinstance(plan, Plan)]
    clips = spoken(engine, plans)
    assert [(plan.voice, plan.language) for plan in plans] == [(ask.voice, ask.language) for ask in requests]
    for request, plan, clip in zip(requests, plans, clips, strict=True):
        (alone,) = engine.run([request])
        assert isinstance(alone, Plan)
        assert alone.natural_s == plan.natural_s
        np.testing.assert_allclose(spoken(engine, [plan])[0].samples, clip.samples, rtol=0, atol=BATCH_TOLERANCE)
    by_voice = [clip.samples[:2000] for clip in clips]
    assert all(not np.allclose(a, b, atol=1e-3) for a, b in itertools.combinations(by_voice, 2))


def test_a_plan_is_spoken_on_any_replica(tmp_path: Path) -> None:
    folder = str(make_vits(tmp_path, speakers=("ana", "bob")))
    here, there = loaded(model=folder), loaded(model=folder)
    (plan,) = planned(here, "Speak it elsewhere.", voice="bob")
    (expected,) = spoken(here, [plan])
    (clip,) = spoken(there, [pickle.loads(pickle.dumps(plan))])
    np.testing.assert_array_equal(clip.samples, expected.samples)


# --- text


class InProcessEspeak:
    """Stands for the espeak-ng program in Coqui's phonemizer: same library, one clause a line."""

    def __init__(self) -> None:
        from piper import espeakbridge
        from piper.phonemize_espeak import ESPEAK_DATA_DIR

        espeakbridge.initialize(str(ESPEAK_DATA_DIR))
        self.bridge = espeakbridge

    def __call__(self, phonemizer: Any, text: str, separator: str = "", *, tie: bool = False) -> str:
        self.bridge.set_voice({"fr-fr": "fr"}.get(phonemizer.language, phonemizer.language))
        return "".join(clause.strip() for clause, _, _ in self.bridge.get_phonemes(text))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en-us", "Hello, world! How are you today?"),
        ("en-us", 'It was — well… "quoted" «text»; semi:colon'),
        ("en-us", "Wait - no hyphen-ated words, please (I mean it)."),
        ("pt-br", "Não são corações, põe muito bem também. Olá! Você está bem?"),
        ("de", "Ich möchte nicht über Züge sprechen, Mädchen!"),
        ("fr-fr", "Un bon vin blanc, s'il vous plaît !"),
    ],
)
def test_phoneme_tokens_are_those_of_coquis_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, text: str
) -> None:
    from TTS.config import load_config
    from TTS.tts.utils.text.phonemizers import espeak_wrapper
    from TTS.tts.utils.text.tokenizer import TTSTokenizer

    folder = make_vits(tmp_path, phoneme_language=language)
    engine = loaded(model=str(folder))
    espeak = InProcessEspeak()
    stock = espeak_wrapper.ESpeak
    monkeypatch.setattr(espeak_wrapper, "_DEF_ESPEAK_LIB", "espeak-ng")
    monkeypatch.setattr(espeak_wrapper, "get_espeakng_version", lambda: "1.52")
    monkeypatch.setattr(stock, "is_available", classmethod(lambda cls: True))
    monkeypatch.setattr(stock, "supported_languages", staticmethod(lambda: {language: language}))
    monkeypatch.setattr(stock, "phonemize_espeak", lambda self, *args, **kwargs: espeak(self, *args, **kwargs))
    monkeypatch.setattr("TTS.tts.utils.text.phonemizers.get_phonemizer_by_name", lambda name, **kwargs: stock(**kwargs))
    monkeypatch.setattr("TTS.tts.utils.text.tokenizer.get_phonemizer_by_name", lambda name, **kwargs: stock(**kwargs))
    tokenizer, _ = TTSTokenizer.init_from_config(load_config(folder / "config.json"))
    expected = [tokenizer.text_to_ids(sentence, language=language) for sentence in _sentences(text, language)]
    assert [tokens.tolist() for tokens in tokenised(engine, text, engine.voices[0])] == expected


def test_letter_tokens_are_those_of_coquis_tokenizer(tmp_path: Path) -> None:
    engine = loaded(model=str(make_vits(tmp_path, language="pt")))
    stock = checkpoint.load_vits(_checkpoint(tmp_path)).tokenizer
    text = "Olá, você está bem?  Sim - estou, obrigado!"
    expected = [stock.text_to_ids(sentence, language="pt") for sentence in _sentences(text, "pt")]
    assert [tokens.tolist() for tokens in tokenised(engine, text, engine.voices[0])] == expected


def test_a_long_text_is_spoken_in_pieces_of_bounded_length(joe: Engine) -> None:
    (plan,) = planned(joe, "We kept the windows closed and nobody asked why " * 40)
    assert len(plan.chunks) > 1
    assert all(len(chunk.tokens) < 1000 for chunk in plan.chunks)


def _sentences(text: str, language: str) -> list[str]:
    import pysbd

    code = language.split("-")[0]
    known = code in pysbd.languages.LANGUAGE_CODES
    return [str(s) for s in pysbd.Segmenter(language=code if known else "en", clean=True).segment(text)]


# --- languages and voices, before anything is loaded


def test_what_is_spoken_is_known_before_loading(tmp_path: Path) -> None:
    folder = make_vits(tmp_path, speakers=("ana", "bob"), languages=("en", "fr-fr", "pt-br"))
    engine = make_engine("speech", "coqui", {"model": str(folder)})
    assert engine.describe_languages() == "en, fr-FR, pt-BR"
    assert engine.supports("pt")
    assert not engine.supports("de")
    with pytest.raises(ConfigError, match="ana, bob; found 'eve'"):
        make_engine("speech", "coqui", {"model": str(folder), "voice": "eve"})


def test_a_models_own_name_of_a_language_can_be_told(tmp_path: Path) -> None:
    folder = make_vits(tmp_path, language="custom_set")
    with pytest.raises(ConfigError, match=r"set speech\.options\.languages"):
        make_engine("speech", "coqui", {"model": str(folder)}).supports("ak")
    engine = loaded(model=str(folder), languages=["ak"])
    (plan,) = planned(engine, "Me ho ye.", language="ak")
    assert spoken(engine, [plan])[0].duration_s > 0


def test_languages_must_match_the_models(tmp_path: Path) -> None:
    folder = make_vits(tmp_path, languages=("en", "pt-br"))
    with pytest.raises(ConfigError, match="in the order en, pt-br; found en"):
        make_engine("speech", "coqui", {"model": str(folder), "languages": ["en"]}).supports("en")


def test_a_known_model_that_is_not_here_says_its_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    engine = make_engine("speech", "coqui", {"model": "tts_models/de/thorsten/vits"})
    assert engine.supports("de-AT")
    with pytest.raises(EngineLoadError, match=r"tts --model_name tts_models/de/thorsten/vits"):
        engine.load()


def test_a_fetched_model_is_found_where_coqui_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS_HOME", str(tmp_path))
    make_vits(tmp_path / "tts" / "tts_models--de--thorsten--vits", language="de")
    engine = loaded(model="tts_models/de/thorsten/vits")
    assert [voice.name for voice in engine.voices] == ["thorsten"]
    (plan,) = planned(engine, "Ein Versuch.", language="de")
    assert plan.voice == "thorsten"


def test_a_hub_model_says_what_it_speaks_once_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coqui leaves such a model in the hub's cache, where nothing shows what it is before it is asked for."""
    monkeypatch.setenv("TTS_HOME", str(tmp_path / "home"))
    snapshot = make_vits(tmp_path / "snapshot", speakers=("ana", "bob"), languages=("en", "pt-br"))
    item = {"repo_id": "somebody/some-vits", "license": "mit"}
    monkeypatch.setattr("TTS.utils.manage.ModelManager._set_model_item", lambda self, name: (item, name, "some-vits"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, **options: str(snapshot))
    engine = loaded(model="tts_models/multilingual/somebody/some-vits", languages=["en", "pt-BR"])
    assert [voice.name for voice in engine.voices] == ["ana", "bob"]
    assert planned(engine, "Um teste.", language="pt", voice="bob")[0].voice == "bob"


# --- bad checkpoints


def test_what_is_no_checkpoint_is_refused_before_loading(tmp_path: Path) -> None:
    for model, complaint in (
        (str(tmp_path / "none"), "does not exist"),
        (str(tmp_path), r"config\.json"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            make_engine("speech", "coqui", {"model": model}).supports("en")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model": "xtts"}')
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"use speech\.engine: xtts"):
        make_engine("speech", "coqui", {"model": str(tmp_path)}).supports("en")


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    make_vits(tmp_path)
    state = torch.load(tmp_path / "model.pth", weights_only=True)["model"]
    state["text_encoder.emb.weight"] = state["text_encoder.emb.weight"][:10]
    torch.save({"model": state}, tmp_path / "model.pth")
    with pytest.raises(EngineLoadError, match=r"text_encoder\.emb\.weight"):
        loaded(model=str(tmp_path))


def test_missing_and_unknown_weights_are_named(tmp_path: Path) -> None:
    make_vits(tmp_path)
    state = torch.load(tmp_path / "model.pth", weights_only=True)["model"]
    state["text_encoder.proj.wait"] = state.pop("text_encoder.proj.weight")
    torch.save({"model": state}, tmp_path / "model.pth")
    with pytest.raises(
        EngineLoadError, match=r"missing: text_encoder\.proj\.weight; unknown: text_encoder\.proj\.wait"
    ):
        loaded(model=str(tmp_path))


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_carries_code_is_not_run(tmp_path: Path) -> None:
    make_vits(tmp_path)
    torch.save({"model": Payload(tmp_path / "ran")}, tmp_path / "model.pth")
    with pytest.raises(EngineLoadError, match="never run"):
        loaded(model=str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    make_vits(tmp_path)
    whole = (tmp_path / "model.pth").read_bytes()
    (tmp_path / "model.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EngineLoadError, match="readable checkpoint"):
        loaded(model=str(tmp_path))


def test_safetensors_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    make_vits(tmp_path)
    pickled = loaded(model=str(tmp_path))
    state = torch.load(tmp_path / "model.pth", weights_only=True)["model"]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    (tmp_path / "model.pth").unlink()
    safe = loaded(model=str(tmp_path))
    (plan,) = planned(safe, TEXTS[0])
    np.testing.assert_array_equal(spoken(safe, [plan])[0].samples, spoken(pickled, [plan])[0].samples)


# --- life


def test_an_engine_is_loaded_before_it_runs(tmp_path: Path) -> None:
    engine = make_engine("speech", "coqui", {"model": str(make_vits(tmp_path))})
    with pytest.raises(EngineError, match="must be loaded"):
        engine.run([PlanRequest(text="A test.", language="en")])


def test_an_item_fails_alone(tmp_path: Path) -> None:
    engine = loaded(model=str(make_vits(tmp_path)))
    good = PlanRequest(text="A test.", language="en")
    before, failure, after = engine.run([good, PlanRequest(text="…!", language="en"), good])
    assert isinstance(before, Plan)
    assert isinstance(after, Plan)
    assert isinstance(failure, ItemFailure)
    assert type(failure.error) is ItemError


def test_nothing_of_torch_is_imported_before_load() -> None:
    code = (
        "import sys; from actors.engine import make_engine; e = make_engine('speech', 'coqui', {});"
        "e.supports('en'), e.voices, e.describe_languages(); print('torch' in sys.modules, 'TTS' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]
