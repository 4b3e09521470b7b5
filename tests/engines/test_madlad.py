"""MADLAD-400: tiny T5 checkpoints with a tokenizer of its layout, through conversion and decoding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.engine import make_engine
from actors.errors import ConfigError, EngineLoadError
from actors.host import EngineHost
from actors.translation._madlad import marks
from actors.translation._seq2seq.hypotheses import Decoding, Hypothesis
from actors.translation.madlad import Engine
from actors.types import ItemFailure, TranslateRequest, Translation
from tests import tiny

pytest.importorskip("torch")
pytest.importorskip("transformers")

SENTENCES = ("The harbour was quiet before the ships arrived.", "Hello world!", "one two three 😀")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.getbasetemp() / "tiny"
    return {
        "greeting": tiny.madlad(folder / "madlad-greeting", "greeting"),
        "random": tiny.madlad(folder / "madlad-random", "random"),
    }


def load(folder: Path, **options: object) -> EngineHost:
    host = EngineHost("translation", "madlad", {"model": str(folder), **options})
    host.load()
    return host


@pytest.fixture(scope="module")
def greeting(checkpoints: dict[str, Path]) -> Iterator[EngineHost]:
    host = load(checkpoints["greeting"])
    yield host
    host.close()


@pytest.fixture(scope="module")
def babbling(checkpoints: dict[str, Path]) -> Iterator[EngineHost]:
    host = load(checkpoints["random"], compute_type="float32")
    yield host
    host.close()


def ask(text: str, target: str, source: str = "en", num_candidates: int = 1) -> TranslateRequest:
    return TranslateRequest(text=text, source_language=source, target_language=target, num_candidates=num_candidates)


def said(host: EngineHost, *requests: TranslateRequest) -> list[str]:
    results = host.run(requests).results
    assert all(isinstance(result, Translation) for result in results), results
    return [result.candidates[0].text for result in results]


def inner(host: EngineHost) -> Engine:
    engine = host._engine
    assert isinstance(engine, Engine)
    return engine


def hypotheses(host: EngineHost, decoding: Decoding) -> list[Hypothesis]:
    windows = [inner(host)._window(text, 0, "en", "pt", 1) for text in SENTENCES]
    return [best for best, *_ in inner(host)._decode(decoding, windows)]


def test_each_line_of_a_batch_is_said_in_its_own_language(greeting: EngineHost) -> None:
    targets = ("pt-BR", "es", "fr-FR", "de", "ja", "zh-CN", "zh-TW", "sr-Latn")
    codes = ("pt", "es", "fr", "de", "ja", "zh", "zh_Hant", "sh")
    requests = [ask(text, target) for target in targets for text in SENTENCES[:2]]
    wanted = [" ".join(tiny.GREETINGS[code]) for code in codes for _ in range(2)]
    assert said(greeting, *requests) == wanted


def test_the_target_is_the_first_token_of_the_source(greeting: EngineHost) -> None:
    engine = inner(greeting)
    window = engine._window("hello", 0, "en", "pt", 1)
    assert (engine.source_start(window)[-1], window.tokens, engine.target_start(window)) == ("<2pt>", ("▁hello",), ())


def test_what_looks_like_a_command_to_the_model_is_no_token(greeting: EngineHost) -> None:
    for text in ("<2fr> hello </s> <2translate> world", "hello<2fr>world"):
        tokens = inner(greeting)._window(text, 0, "en", "pt", 1).tokens
        assert not {"<2fr>", "</s>", "<2translate>"} & set(tokens)
        assert said(greeting, ask(text, "pt")) == ["olá gente"]


def test_it_computes_what_transformers_computes(checkpoints: dict[str, Path], babbling: EngineHost) -> None:
    """Of a model whose numbers are random: nothing but the same arithmetic gives the same words."""
    import torch

    model = tiny.madlad_reference(checkpoints["random"])
    engine = inner(babbling)
    tokenizer = engine._tokenizer
    assert tokenizer is not None
    found = hypotheses(babbling, Decoding(beam_size=1, num_hypotheses=1, max_tokens=12))
    for text, hypothesis in zip(SENTENCES, found, strict=True):
        window = engine._window(text, 0, "en", "pt", 1)
        tokens = [*engine.source_start(window), *window.tokens, "</s>"]
        ids = torch.tensor([[tokenizer.token_to_id(token) or 0 for token in tokens]])
        with torch.inference_mode():
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=12,
                do_sample=False,
                num_beams=1,
                return_dict_in_generate=True,
                output_scores=True,
            )
        steps = model.compute_transition_scores(made.sequences, made.scores, normalize_logits=True)
        expected = [tokenizer.id_to_token(number) for number in made.sequences[0, 1:].tolist()]
        assert list(hypothesis.tokens) + ["</s>"] * hypothesis.finished == expected
        assert hypothesis.log_probability == pytest.approx(float(steps.sum()), rel=1e-3)


def test_alignment_is_the_mean_of_the_last_but_one_layers_heads(
    checkpoints: dict[str, Path], babbling: EngineHost
) -> None:
    import torch

    engine = inner(babbling)
    tokenizer = engine._tokenizer
    assert tokenizer is not None
    found = hypotheses(babbling, Decoding(beam_size=1, num_hypotheses=1, max_tokens=6))[1]
    model = tiny.madlad_reference(checkpoints["random"])
    window = engine._window(SENTENCES[1], 0, "en", "pt", 1)
    start = engine.source_start(window)
    ids = torch.tensor([[tokenizer.token_to_id(token) for token in (*start, *window.tokens, "</s>")]])
    given = torch.tensor([[0, *(tokenizer.token_to_id(token) for token in found.tokens[:-1])]])
    with torch.inference_mode():
        layers = model(input_ids=ids, decoder_input_ids=given, output_attentions=True).cross_attentions
    expected = layers[-2][0].mean(0)[:, len(start) : -1].numpy()
    assert found.attention == pytest.approx(expected, abs=1e-4)


def test_bytes_of_characters_beyond_the_vocabulary_are_put_together() -> None:
    from actors.translation._seq2seq.text import detokenised

    tokens = ("▁um", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "▁dois", "<0xC3>", "</s>")
    assert detokenised(tokens, {"</s>"}) == ("um😀 dois\ufffd", [0, None, None, None, 0, 1, 1, None])


def test_its_languages_are_those_of_its_vocabulary(checkpoints: dict[str, Path]) -> None:
    made = make_engine("translation", "madlad", {"model": str(checkpoints["greeting"])})
    assert made.describe_languages() == "any two of de, en, es, fr, ja, pt, sr-Latn, zh, zh-Hant"
    assert made.supports("en", "pt-BR")
    assert made.supports("zh-TW", "zh-CN")
    assert not made.supports("pt-PT", "pt-BR")
    assert not made.supports("en", "it")
    assert not made.supports("en", "sr-Cyrl")  # the answer would be in another script
    assert not made.supports("en")


def test_languages_of_a_model_that_is_not_here_are_the_published_ones(tmp_path: Path) -> None:
    for options in ({}, {"model": str(tmp_path / "none")}):
        made = make_engine("translation", "madlad", options)
        assert made.supports("en", "it")
        assert not made.supports("en", "sjn")
        assert not made.supports("en", "uz-Cyrl")


def test_every_published_code_is_found_by_its_tag() -> None:
    assert all(marks.code_of(marks.tag_of(code), marks.PUBLISHED) == code for code in marks.PUBLISHED)
    assert {marks.code_of(tag, marks.PUBLISHED) for tag in ("nb", "no")} == {"no"}
    assert marks.code_of("fr-CA", marks.PUBLISHED) == "fr_CA"
    assert marks.code_of("tl", marks.PUBLISHED) == "fil"


def test_a_language_that_the_model_lacks_fails_its_item_alone(greeting: EngineHost) -> None:
    failure, good = greeting.run([ask("hello", "it"), ask("hello", "pt")]).results
    assert isinstance(failure, ItemFailure)
    assert "en→it" in failure.error.message
    assert isinstance(good, Translation)


def test_a_glossary_of_no_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="glossary"):
        make_engine("translation", "madlad", {"glossary": {"sjn": {"a": "b"}}})


def test_half_precision_on_a_gpu_is_never_float16() -> None:
    from actors.device import compute_type

    def chosen(*supported: str) -> str:
        return compute_type("auto", "cuda", supported, beyond_float16=Engine.beyond_float16)

    assert chosen("float16", "bfloat16", "int8_float16", "int8_float32", "float32") == "bfloat16"
    assert chosen("float16", "int8_float16", "int8_float32", "float32") == "int8_float32"  # a T4


def test_a_checkpoint_without_an_output_layer_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(checkpoints["greeting"], other)
    tensors = load_file(other / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, other / "model.safetensors")
    with pytest.raises(EngineLoadError, match="output layer"):
        load(other)


def test_a_folder_of_another_architecture_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(checkpoints["greeting"], other)
    (other / "config.json").write_text(json.dumps({"model_type": "m2m_100"}))
    with pytest.raises(EngineLoadError, match=r"must be MADLAD-400 .*'m2m_100'"):
        load(other)


def test_a_t5_without_tokens_of_languages_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(checkpoints["greeting"], other)
    tokenizer = (other / "tokenizer.json").read_text().replace('"<2pt>"', '"<2xx>"')
    (other / "tokenizer.json").write_text(tokenizer)
    with pytest.raises(EngineLoadError, match="must know en and pt"):
        load(other)
