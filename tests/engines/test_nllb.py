"""NLLB on both libraries: tiny checkpoints of the real architecture, through conversion and decoding."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.engine import make_engine
from actors.errors import ConfigError, EngineLoadError, ItemError
from actors.host import EngineHost
from actors.translation._nllb.base import NllbEngine
from actors.translation._seq2seq.hypotheses import Decoding, Hypothesis
from actors.translation._seq2seq.units import max_target_tokens
from actors.types import ItemFailure, TranslateRequest, Translation
from tests import tiny

pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
ENGINES = ("nllb_ct2", "nllb")
FULL_PRECISION = {"nllb_ct2": {"compute_type": "float32"}, "nllb": {"dtype": "float32"}}
SENTENCES = (
    "The harbour was quiet before the ships arrived.",
    "Hello world!",
    "We kept the windows closed, and nobody asked why.",
    "one two three",
)
Loaded = Callable[..., EngineHost]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.getbasetemp() / "tiny"
    return {kind: tiny.nllb(folder / f"nllb-{kind}", kind) for kind in ("copying", "random")}


@pytest.fixture(scope="module")
def loaded(checkpoints: dict[str, Path]) -> Iterator[Loaded]:
    """Hosts by engine and options, each loaded once."""
    hosts: dict[str, EngineHost] = {}

    def load(engine: str, kind: str = "copying", **options: Any) -> EngineHost:
        key = json.dumps([engine, kind, options])
        if key not in hosts:
            host = EngineHost("translation", engine, {"model": str(checkpoints[kind]), **options})
            host.load()
            hosts[key] = host
        return hosts[key]

    yield load
    for host in hosts.values():
        host.close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(text: str, num_candidates: int = 1, source: str = "en", target: str = "pt") -> TranslateRequest:
    return TranslateRequest(text=text, source_language=source, target_language=target, num_candidates=num_candidates)


def translations(host: EngineHost, *requests: TranslateRequest) -> list[Translation]:
    results = host.run(requests).results
    for result in results:
        assert isinstance(result, Translation), result
    return results


def best(host: EngineHost, *texts: str) -> list[str]:
    return [result.candidates[0].text for result in translations(host, *map(ask, texts))]


def hypotheses(host: EngineHost, texts: Sequence[str], decoding: Decoding) -> list[list[Hypothesis]]:
    """What the decoder alone says, sound or not."""
    inner = host._engine
    assert isinstance(inner, NllbEngine)
    return inner._decode(decoding, [inner._window(text, 0, "eng_Latn", "por_Latn", 1) for text in texts])


# --- both engines


def test_a_model_that_copies_is_heard_to_copy(engine: str, loaded: Loaded) -> None:
    assert best(loaded(engine), *SENTENCES) == list(SENTENCES)


def test_both_engines_say_the_same_and_are_as_sure(loaded: Loaded) -> None:
    """Of a model whose numbers are random: nothing but the same arithmetic gives the same words."""
    free = Decoding(beam_size=1, num_hypotheses=1, max_tokens=12)
    varied = Decoding(beam_size=1, num_hypotheses=1, max_tokens=12, no_repeat_ngram_size=1)
    hosts = [loaded(name, "random", **FULL_PRECISION[name]) for name in ENGINES]
    for (a,), (b,) in zip(*(hypotheses(host, SENTENCES, free) for host in hosts), strict=True):
        assert a.tokens == b.tokens
        assert a.log_probability == pytest.approx(b.log_probability, abs=1e-3)
        assert not a.finished
        assert not b.finished
    for (a,), (b,) in zip(*(hypotheses(host, SENTENCES, varied) for host in hosts), strict=True):
        assert a.tokens == b.tokens
        assert len(set(a.tokens)) == 12


def test_both_engines_rank_the_same_candidates(loaded: Loaded) -> None:
    fast, reference = (
        translations(loaded(name, **FULL_PRECISION[name]), *(ask(text, 3) for text in SENTENCES)) for name in ENGINES
    )
    for a, b in zip(fast, reference, strict=True):
        assert a.candidates[0].text == b.candidates[0].text
        assert [c.score for c in a.candidates] == pytest.approx([c.score for c in b.candidates], abs=1e-3)


def test_candidates_differ_and_are_sorted(engine: str, loaded: Loaded) -> None:
    (result,) = translations(loaded(engine), ask(SENTENCES[0], 4))
    texts = [candidate.text for candidate in result.candidates]
    assert 1 < len(texts) == len(set(texts)) <= 4
    scores = [candidate.score for candidate in result.candidates]
    assert all(score is not None and score < 0 for score in scores)
    assert scores == sorted(scores, reverse=True)


def test_a_score_is_the_mean_log_probability_of_a_token(loaded: Loaded) -> None:
    """Against the sum over the reference's own logits."""
    import torch

    host = loaded("nllb", **FULL_PRECISION["nllb"])
    (result,) = translations(loaded("nllb_ct2", **FULL_PRECISION["nllb_ct2"]), ask("Hello world!"))
    inner = host._engine
    assert isinstance(inner, NllbEngine)
    tokens = inner._window("Hello world!", 0, "eng_Latn", "por_Latn", 1).tokens
    ids = inner._padded([["eng_Latn", *tokens, "</s>"]])[0]  # type: ignore[attr-defined]
    said = inner._padded([["</s>", "por_Latn", *tokens]])[0]  # type: ignore[attr-defined]
    with torch.inference_mode():
        logits = inner._model(input_ids=ids, decoder_input_ids=said).logits[0, 1:]  # type: ignore[attr-defined]
    chosen = logits.log_softmax(-1).gather(1, ids[0, 1:, None])
    assert result.candidates[0].score == pytest.approx(float(chosen.mean()), abs=1e-3)


def test_a_batch_gives_what_its_items_give_alone(engine: str, loaded: Loaded) -> None:
    host = loaded(engine)
    requests = [ask(SENTENCES[0], 3), ask("no"), ask(SENTENCES[2], target="fr"), ask(SENTENCES[2] * 8), ask("7")]
    together = translations(host, *requests)
    for request, result in zip(requests, together, strict=True):
        (alone,) = translations(host, request)
        assert [candidate.text for candidate in alone.candidates] == [c.text for c in result.candidates]


def counting(host: EngineHost, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Decoding, int]]:
    """The searches from now on, with the number of their windows."""
    inner = host._engine
    assert isinstance(inner, NllbEngine)
    decode, searches = inner._decode, list[tuple[Decoding, int]]()

    def counted(decoding: Decoding, batch: Sequence[Any]) -> list[list[Hypothesis]]:
        searches.append((decoding, len(batch)))
        return decode(decoding, batch)

    monkeypatch.setattr(inner, "_decode", counted)
    return searches


@pytest.mark.parametrize("beam_size", [1, 4])
def test_windows_of_all_lengths_share_one_search(
    engine: str, beam_size: int, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = loaded(engine, beam_size=beam_size)
    texts = ["no", SENTENCES[1], SENTENCES[0], " ".join(["one two three"] * 20)]
    alone = [best(host, text)[0] for text in texts]
    searches = counting(host, monkeypatch)
    assert best(host, *texts) == alone == texts
    ((decoding, num_windows),) = searches
    assert num_windows == len(texts)
    assert decoding.max_tokens > 64  # the limit of the longest


def test_numbers_of_candidates_share_one_search(engine: str, loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    host = loaded(engine)
    requests = [ask(SENTENCES[0], 3), ask(SENTENCES[1]), ask(SENTENCES[3], 2)]
    alone = [translations(host, request)[0] for request in requests]
    searches = counting(host, monkeypatch)
    together = translations(host, *requests)
    assert [len(result.candidates) for result in together] == [len(result.candidates) for result in alone]
    assert len(searches) == 1


def test_a_window_that_would_end_past_its_own_limit_is_decoded_within_it(
    engine: str, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As alone, whatever the limits of the others: in 32 tokens it ends, in 512 another path is likelier."""
    host = loaded(engine)
    inner = host._engine
    assert isinstance(inner, NllbEngine)

    def searched(decoding: Decoding, batch: Sequence[Any]) -> list[list[Hypothesis]]:
        numbers = [12 if decoding.max_tokens == 32 and window.text == "no" else 40 for window in batch]
        return [
            [
                Hypothesis(
                    tokens=tuple(f"▁{at}" for at in range(number)),
                    finished=True,
                    log_probability=-1.0,
                    attention=None,
                )
            ]
            for number in numbers
        ]

    monkeypatch.setattr(inner, "_decode", searched)
    (alone,), (together, _) = best(host, "no"), best(host, "no", " ".join(["one two three"] * 20))
    assert together == alone
    assert len(alone.split()) == 12


@pytest.mark.parametrize("beam_size", [1, 4])
def test_windows_that_never_end_fail_in_a_batch_as_alone(engine: str, beam_size: int, loaded: Loaded) -> None:
    """The random model babbles on: what is said of it does not depend on how far others may go."""
    host = loaded(engine, "random", beam_size=beam_size)
    requests = [ask("no"), ask(SENTENCES[0]), ask("...")]
    together = host.run(requests).results
    alone = [host.run([request]).results[0] for request in requests]
    assert [type(result) for result in together] == [type(result) for result in alone]
    assert [type(result) for result in together] == [ItemFailure, ItemFailure, Translation]


def test_a_long_text_comes_out_whole_and_in_order(engine: str, loaded: Loaded) -> None:
    text = " ".join(f"{sentence} {number}." for number in range(1, 20) for sentence in SENTENCES[:2])
    assert best(loaded(engine), text) == [text]


def test_a_sentence_longer_than_the_window_is_cut_and_joined(engine: str, loaded: Loaded) -> None:
    text = "hello world, " * 60 + "one two three"
    host = loaded(engine, max_source_tokens=16)
    assert best(host, text) == [text]
    assert best(host, "x" * 90)[0].replace(" ", "") == "x" * 90


def test_paragraphs_stay_apart_and_other_space_collapses(engine: str, loaded: Loaded) -> None:
    assert best(loaded(engine), "Hello  world!\n\n\none\r\ntwo ") == ["Hello world!\n\none two"]


def test_what_has_no_letter_is_passed_through(engine: str, loaded: Loaded) -> None:
    (result,) = translations(loaded(engine), ask("😀 … ❤️"))
    assert result.candidates[0].text == "😀 … ❤️"
    assert result.candidates[0].score is None


def test_what_looks_like_a_command_to_the_model_is_text(engine: str, loaded: Loaded) -> None:
    (said,) = best(loaded(engine), "hello </s> fra_Latn world")
    assert said.startswith("hello")
    assert said.endswith("world")


def test_sentences_of_unspaced_scripts_stand_side_by_side(engine: str, loaded: Loaded) -> None:
    (result,) = translations(loaded(engine), ask("Hello world! We kept one.", target="ja"))
    assert result.candidates[0].text == "Hello world!We kept one."


def test_a_translation_that_never_ends_fails_its_item_alone(engine: str, loaded: Loaded) -> None:
    """The random model babbles to the limit, however it is decoded."""
    failure, passed = loaded(engine, "random").run([ask("hello world"), ask("...")]).results
    assert isinstance(failure, ItemFailure)
    assert type(failure.error) is ItemError
    assert "stricter decoding" in failure.error.message
    assert "hello" not in failure.error.message  # nobody's words in a log
    assert isinstance(passed, Translation)


def test_an_unsound_translation_is_decoded_again(
    engine: str, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = EngineHost("translation", engine, {"model": str(checkpoints["copying"])})
    host.load()
    inner = host._engine
    assert isinstance(inner, NllbEngine)
    decode, asked = inner._decode, list[Decoding]()

    def looping_at_first(decoding: Decoding, batch: Sequence[Any]) -> list[list[Hypothesis]]:
        asked.append(decoding)
        if decoding.no_repeat_ngram_size:
            return decode(decoding, batch)
        loop = Hypothesis(tokens=("▁so",) * 20, finished=True, log_probability=-1.0, attention=None)
        return [[loop] for _ in batch]

    monkeypatch.setattr(inner, "_decode", looping_at_first)
    assert best(host, "Hello world!") == ["Hello world!"]
    first, second = asked
    assert second.no_repeat_ngram_size > first.no_repeat_ngram_size == 0
    assert second.beam_size > first.beam_size
    host.close()


def test_a_glossary_is_kept(engine: str, loaded: Loaded) -> None:
    """The model copies what it reads, so only a term that is already in the source can come out."""
    host = loaded(engine, glossary={"pt-BR": {"windows": "janelas"}, "fr": {"closed": "stone"}})
    assert best(host, SENTENCES[2]) == [SENTENCES[2].replace("windows", "janelas")]
    (french,) = translations(host, ask(SENTENCES[2], 2, target="fr"))
    assert french.candidates[0].text == SENTENCES[2].replace("closed", "stone")
    assert best(host, SENTENCES[0]) == [SENTENCES[0]]


def test_a_glossary_of_no_language_or_term_is_refused(engine: str) -> None:
    for glossary in ({"tlh": {"a": "b"}}, {"pt": {" ": "b"}}, {"pt": {}, "pt-BR": {}}):
        with pytest.raises(ConfigError, match="glossary"):
            make_engine("translation", engine, {"glossary": glossary})


def test_languages_are_told_before_loading(engine: str) -> None:
    made = make_engine("translation", engine, {})
    assert made.supports("en", "pt-BR")
    assert made.supports("zh-TW", "zh-CN")
    assert not made.supports("pt-PT", "pt-BR")
    assert not made.supports("en", "tlh")
    assert not made.supports("en")
    assert "zh-Hant" in made.describe_languages()


def test_memory_that_runs_out_halves_the_batch(
    engine: str, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = EngineHost("translation", engine, {"model": str(checkpoints["copying"])})
    host.load()
    inner = host._engine
    assert isinstance(inner, NllbEngine)
    decode, sizes = inner._decode, list[int]()

    def in_little_memory(decoding: Decoding, batch: Sequence[Any]) -> list[list[Hypothesis]]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("CUDA failed with error out of memory")
        return decode(decoding, batch)

    monkeypatch.setattr(inner, "_decode", in_little_memory)
    texts = ["Hello world!"] * 8
    assert best(host, *texts) == texts
    assert sizes == [8, 4, 2, 2, 2, 2]
    host.close()


# --- CTranslate2 alone


def test_each_word_is_aligned_with_the_word_it_was_read_from(loaded: Loaded) -> None:
    text = "Hello world! We kept 😀 the windows closed.\n\n❤️ one two"
    (result,) = translations(loaded("nllb_ct2"), ask(text))
    candidate = result.candidates[0]
    assert candidate.alignment is not None
    source, target = text.split(), candidate.text.split()
    strongest = {word: max((w, s) for s, t, w in candidate.alignment if t == word)[1] for word in range(len(target))}
    assert [source[at] for at in strongest.values()] == target
    assert all(0 < weight <= 1 for _, _, weight in candidate.alignment)


def test_alignment_may_be_left_out(loaded: Loaded) -> None:
    (result,) = translations(loaded("nllb_ct2", alignment=False), ask(SENTENCES[0]))
    assert result.candidates[0].alignment is None


def test_alignment_is_the_mean_of_the_last_but_one_layers_heads(checkpoints: dict[str, Path], loaded: Loaded) -> None:
    import torch
    from transformers import M2M100ForConditionalGeneration

    (((fast,),)) = hypotheses(
        loaded("nllb_ct2", "random", compute_type="float32"),
        SENTENCES[:1],
        Decoding(beam_size=1, num_hypotheses=1, max_tokens=6),
    )
    model = M2M100ForConditionalGeneration.from_pretrained(checkpoints["random"], attn_implementation="eager").eval()
    inner = loaded("nllb", "random", dtype="float32")._engine
    assert isinstance(inner, NllbEngine)
    window = inner._window(SENTENCES[0], 0, "eng_Latn", "por_Latn", 1)
    ids = inner._padded([["eng_Latn", *window.tokens, "</s>"]])[0]  # type: ignore[attr-defined]
    said = inner._padded([["</s>", "por_Latn", *fast.tokens]])[0]  # type: ignore[attr-defined]
    with torch.inference_mode():
        layers = model(input_ids=ids, decoder_input_ids=said, output_attentions=True).cross_attentions
    expected = layers[-2][0].mean(0)[1 : 1 + len(fast.tokens), 1:-1].numpy()
    assert fast.attention == pytest.approx(expected, abs=1e-4)


def test_a_converted_folder_is_taken_as_it_is(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    from actors.translation._nllb.convert import NLLB, convert
    from actors.translation._seq2seq.convert import converted

    convert(checkpoints["copying"], tmp_path / "ct2", "float32")
    assert converted(tmp_path / "ct2", "int8", 1, NLLB) == tmp_path / "ct2"
    host = EngineHost("translation", "nllb_ct2", {"model": str(tmp_path / "ct2")})
    host.load()
    assert best(host, SENTENCES[0]) == [SENTENCES[0]]
    host.close()


def test_a_tokenizer_of_another_model_is_found_out(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(checkpoints["copying"], model)
    from actors.translation._seq2seq import convert as conversion

    conversion.write(model, tmp_path / "ct2", "float32")
    names = json.loads((tmp_path / "ct2" / "shared_vocabulary.json").read_text())
    names[10], names[11] = names[11], names[10]
    (tmp_path / "ct2" / "shared_vocabulary.json").write_text(json.dumps(names))
    with pytest.raises(EngineLoadError, match=r"token 1[01] must be"):
        conversion._check_vocabulary(tmp_path / "ct2")


def test_the_hubs_own_format_a_pickle_of_tensors_is_converted(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """facebook/nllb-200-distilled-600M has no safetensors."""
    import torch
    from safetensors.torch import load_file

    model = tmp_path / "model"
    shutil.copytree(checkpoints["copying"], model)
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    for engine in ENGINES:
        host = EngineHost("translation", engine, {"model": str(model)})
        host.load()
        assert best(host, SENTENCES[0]) == [SENTENCES[0]]
        host.close()


CONVERT = """
import sys
from pathlib import Path
from actors.translation._nllb.convert import NLLB
from actors.translation._seq2seq.convert import converted
print(converted(Path(sys.argv[1]), "int8", 1, NLLB))
"""


def test_two_processes_convert_once(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    env = {**os.environ, "RAYDUB_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CONVERT, str(checkpoints["copying"])]
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1]
    made = tmp_path / "nllb-ct2"
    assert [path.name for path in made.iterdir() if path.is_dir()] == [Path(said[0]).name]
    assert {path.name for path in Path(said[0]).iterdir()} >= {"model.bin", "shared_vocabulary.json", "tokenizer.json"}


def test_a_changed_checkpoint_is_converted_anew(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.translation._nllb.convert import NLLB
    from actors.translation._seq2seq import convert as conversion

    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path / "cache"))
    made = list[Path]()
    monkeypatch.setattr(conversion, "_convert_aside", lambda folder, out, *_: (made.append(out), out.mkdir()))
    model = tmp_path / "model"
    shutil.copytree(checkpoints["copying"], model)
    first = conversion.converted(model, "int8", 1, NLLB)
    assert conversion.converted(model, "int8_float16", 1, NLLB) == first  # the same weights, computed otherwise
    assert conversion.converted(model, "float16", 1, NLLB) != first
    (model / "tokenizer.json").write_text("{}")
    assert conversion.converted(model, "int8", 1, NLLB) != first
    assert len(made) == 3


def test_running_it_needs_neither_torch_nor_transformers(checkpoints: dict[str, Path], loaded: Loaded) -> None:
    loaded("nllb_ct2")  # converted by now
    script = (
        "import sys; from actors.host import EngineHost; from actors.types import TranslateRequest\n"
        "host = EngineHost('translation', 'nllb_ct2', {'model': sys.argv[1]}); host.load()\n"
        "ask = TranslateRequest(text='Hello world!', source_language='en', target_language='pt')\n"
        "print(host.run([ask]).results[0].candidates[0].text, *{'torch', 'transformers'} & set(sys.modules))\n"
    )
    command = [sys.executable, "-c", script, str(checkpoints["copying"])]
    ran = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, stdout=subprocess.PIPE, text=True
    )
    assert ran.stdout.strip() == "Hello world!"


# --- folders that will not do


def test_a_model_that_is_not_there_is_named(engine: str, tmp_path: Path) -> None:
    for model in (str(tmp_path / "none"), "facebook/nllb-200-distilled-600M"):
        with pytest.raises(EngineLoadError, match=model):
            EngineHost("translation", engine, {"model": model}).load()


def test_a_folder_that_is_no_nllb_is_refused(engine: str, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    with pytest.raises(EngineLoadError):
        EngineHost("translation", engine, {"model": str(tmp_path)}).load()
    other = tmp_path / "other"
    shutil.copytree(checkpoints["copying"], other)
    (other / "tokenizer.json").unlink()
    with pytest.raises(EngineLoadError, match=r"tokenizer\.json"):
        EngineHost("translation", engine, {"model": str(other)}).load()


def test_a_folder_of_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(EngineLoadError, match=r"must be NLLB .*'bert'"):
        EngineHost("translation", "nllb_ct2", {"model": str(tmp_path)}).load()


def test_a_type_that_the_cpu_has_not_is_refused(checkpoints: dict[str, Path]) -> None:
    options = {"model": str(checkpoints["copying"]), "compute_type": "float16", "device": "cpu"}
    with pytest.raises(EngineLoadError, match="compute_type must be auto or one of"):
        EngineHost("translation", "nllb_ct2", options).load()


def test_limits_grow_in_steps_with_the_source_alone() -> None:
    limits = [max_target_tokens(num) for num in range(1, 481)]
    assert limits == sorted(limits)
    assert all(limit >= min(512, 3 * num) for num, limit in enumerate(limits, 1))
    assert set(limits) == {32, 64, 128, 256, 512}
