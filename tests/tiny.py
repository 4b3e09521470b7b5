"""Tiny checkpoints, laid out as on the hub, of real architectures with real tokenizer classes.

``copying`` NLLB models have weights set by hand so that they translate every text into itself: what
comes out is known, word for word, with the alignment. ``random`` ones babble, which exercises
numbers; nothing they say ends. A ``greeting`` MADLAD model greets in the language that it is asked for,
whatever it reads.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tests.tiny_speech import make_vits, make_xtts

Kind = Literal["copying", "random"]
MadladKind = Literal["greeting", "random"]

WORDS = (
    "the harbour was quiet before ships arrived we kept windows closed good morning and nobody asked why hello world "
    "one two three no not over under river stone light bread little house o porto estava calmo antes de os navios "
    "chegarem deixamos as janelas fechadas bom dia um raio azul"
)
LETTERS = string.ascii_letters + string.digits + "áàâãéêíóôõúüçñÁÉÍÓÚ" + ".,;:!?-'\"()¡¿&<>{}%\\"

_GAIN = 200.0
"""Of a query: attention is then on one position almost alone."""
_NUM_SINES = 16


def options_for(task: str, engine: str, folder: Path) -> dict[str, Any]:
    """Options with which an engine runs on a checkpoint made here, in ``folder``; none if it needs none."""
    if engine.startswith("openai_"):
        from tests.standins import model_server  # its web server is for these engines alone

        return {**model_server.shared().options, "languages": ["en", "pt"]}
    if any(importlib.util.find_spec(module) is None for module in ("torch", "transformers", "sentence_transformers")):
        return {}
    if task == "translation" and engine in ("nllb", "nllb_ct2"):
        return {"model": str(nllb(folder / "nllb-copying", "copying"))}
    if task == "translation" and engine == "madlad":
        return {"model": str(madlad(folder / "madlad-greeting", "greeting"))}
    if task == "speech" and engine == "coqui_voices" and importlib.util.find_spec("TTS") is not None:
        tags = ("en", "pt")
        return {"models": {tag: str(make_vits(folder / f"vits-{tag}", language=tag)) for tag in tags}, "max_loaded": 1}
    if task == "speech" and engine == "xtts" and importlib.util.find_spec("TTS") is not None:
        return {"model": str(make_xtts(folder / "xtts", speakers=("Ana", "Joe")))}
    if task == "embedding" and engine == "sbert":
        return {"model": str(sentence_transformer(folder / "sbert")), "languages": ["en", "pt"]}
    return {}


def nllb(folder: Path, kind: Kind, seed: int = 0) -> Path:
    """An M2M100 model of 2 + 2 layers and its NllbTokenizer; made once per folder, same for the same seed."""
    if (folder / "config.json").is_file():
        return folder
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    tokenizer = nllb_tokenizer()
    config = M2M100Config(
        vocab_size=len(tokenizer) + 2,
        d_model=128,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        dropout=0.0,
        attention_dropout=0.0,
        max_position_embeddings=1024,
        scale_embedding=True,
        activation_function="relu",
        decoder_start_token_id=2,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        tokenizer_class="NllbTokenizer",
        # Ten times the usual, so that layers drown what they are given: else it repeats its last token.
        init_std=0.02 if kind == "copying" else 0.2,
        max_length=200,
    )
    torch.manual_seed(seed)
    model = M2M100ForConditionalGeneration(config).eval()
    if kind == "copying":
        _make_it_copy(model)
    else:
        model.model.shared.weight.data *= 0.1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def nllb_tokenizer() -> Any:
    """The real class: BPE on words, and all 202 language codes after it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import NllbTokenizer

    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=list(LETTERS),
        show_progress=False,
    )
    trained.train_from_iterator([WORDS] * 3, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) if not isinstance(pair, str) else tuple(pair.split(" ")) for pair in model["merges"]]
    return NllbTokenizer(vocab=model["vocab"], merges=merges, src_lang="eng_Latn", tgt_lang="por_Latn")


def _make_it_copy(model: Any) -> None:
    """Let the decoder, at each position, attend to the source's same position and say what is there.

    The decoder's input is (end mark, target language, what was said so far) and the source's is
    (source language, text, end mark): at the position where the n-th token is to be said, the source
    has the n-th token. Embeddings leave the dimensions of the fast sinusoids to the positions, which
    match best with themselves there.
    """
    import torch

    config = model.config
    half, num_heads = config.d_model // 2, config.decoder_attention_heads
    head_dim = config.d_model // num_heads
    fast = head_dim // 2  # as many sines and cosines as one head has room for
    with torch.no_grad():
        embeddings = model.model.shared.weight
        is_position = torch.zeros(config.d_model, dtype=torch.bool)
        is_position[:fast] = is_position[half : half + fast] = True
        embeddings.normal_()
        embeddings[:, is_position] = 0
        # The slowest sines are about 0 and slow cosines about 1. Of zero mean over either, embeddings do not
        # feel them, and the mean over those sines is what layer normalisation took away: keys add it again.
        # As few sines as this, so that their share survives rounding to int8.
        slow_sines, slow_cosines = slice(half - _NUM_SINES, half), slice(half + fast, None)
        for slow in (slow_sines, slow_cosines):
            embeddings[:, slow] -= embeddings[:, slow].mean(dim=1, keepdim=True)
        embeddings /= embeddings.norm(dim=1, keepdim=True)
        token_dims = torch.nonzero(~is_position).flatten().tolist()
        for layer in [*model.model.encoder.layers, *model.model.decoder.layers]:
            layer.self_attn.out_proj.weight *= 0.05
            layer.fc2.weight *= 0.05
        # Only the last layer speaks up: what the others add would drown the positions that the next one needs.
        loudness = [0.5] * (config.decoder_layers - 1) + [8.0]
        for layer, loud in zip(model.model.decoder.layers, loudness, strict=True):
            attention = layer.encoder_attn
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
                projection.weight.zero_()
                projection.bias.zero_()
            for head in range(num_heads):
                first = head * head_dim
                for at in range(fast):
                    for row, dim in ((first + at, at), (first + fast + at, half + at)):
                        for projection, gain in ((attention.q_proj, _GAIN), (attention.k_proj, 1.0)):
                            projection.weight[row, slow_sines] = -gain / _NUM_SINES
                            projection.weight[row, dim] = gain
                for at, dim in enumerate(token_dims[head::num_heads]):
                    attention.v_proj.weight[first + at, slow_sines] = -1 / _NUM_SINES
                    attention.v_proj.weight[first + at, dim] += 1
                    attention.out_proj.weight[dim, first + at] = loud


GREETINGS = {
    "en": ("hello", "everyone"), "pt": ("olá", "gente"), "es": ("hola", "todos"), "fr": ("bonjour", "tous"),
    "de": ("hallo", "alle"), "ja": ("やあ", "皆さん"), "zh": ("你好", "大家"), "zh_Hant": ("你們", "諸位"),
    "sh": ("zdravo", "svima"),
}  # fmt: skip
OTHER_MARKS = ("translate", "back_translated", "en_xx_simple", "Latn", "CA", "")
"""Tokens of MADLAD that look like those of languages."""


def madlad(folder: Path, kind: MadladKind, seed: int = 0) -> Path:
    """A T5 model of 2 + 2 layers and a tokenizer, in MADLAD's layout; made once per folder, same for the same seed.

    Its embeddings are stored as the decoder's alone, and differ from the output layer.
    """
    if (folder / "config.json").is_file():
        return folder
    import torch
    from safetensors.torch import save_file
    from transformers import T5Config, T5ForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    names = madlad_tokenizer(folder)
    config = T5Config(
        vocab_size=len(names) + 3,  # as published ones have more rows than tokens
        d_model=64,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        tokenizer_class="T5Tokenizer",
    )
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(config).eval()
    model.lm_head = torch.nn.Linear(config.d_model, config.vocab_size, bias=False)
    if kind == "greeting":
        _make_it_greet(model, names)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if "embed_tokens" not in name}
    tensors["decoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    save_file(tensors, folder / "model.safetensors")
    told = {**config.to_dict(), "tie_word_embeddings": False}
    del told["scale_decoder_outputs"]  # of transformers 5 alone
    (folder / "config.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def madlad_reference(folder: Path) -> Any:
    """The checkpoint of ``madlad`` as a model of transformers, which by itself would tie its embeddings."""
    import torch
    from safetensors.torch import load_file
    from transformers import T5Config, T5ForConditionalGeneration

    tensors = load_file(folder / "model.safetensors")
    embeddings, head = tensors["decoder.embed_tokens.weight"], tensors["lm_head.weight"]
    config = T5Config.from_pretrained(folder)
    config._attn_implementation = "eager"
    model = T5ForConditionalGeneration(config).eval()
    model.lm_head = torch.nn.Linear(config.d_model, config.vocab_size, bias=False)
    own = {**tensors, **dict.fromkeys(("shared.weight", "encoder.embed_tokens.weight"), embeddings)}
    model.load_state_dict({**own, "lm_head.weight": head})
    return model


def madlad_tokenizer(folder: Path) -> dict[str, int]:
    """Write a SentencePiece unigram with bytes, and the special tokens at MADLAD's places; the tokens' numbers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<unk>", "<s>", "</s>"]
    marks = [f"<2{code}>" for code in (*GREETINGS, *OTHER_MARKS)]
    words = dict.fromkeys([*WORDS.split(), *itertools.chain(*GREETINGS.values())])
    pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", *(f"▁{word}" for word in words), *LETTERS]
    scores = [(token, 0.0) for token in (*special, *marks)] + [(piece, -4.0) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    return dict(tokenizer.get_vocab())


def _make_it_greet(model: Any, names: Mapping[str, int]) -> None:
    """Let the decoder attend to the language's token, whose greeting's first word follows the start; then the second.

    Dimensions: 0 is that of every token, 1 of the languages' tokens, 2 of the start, then one for each language, and
    one for the words of its greeting.
    """
    import torch

    first_language, first_word = 3, 3 + len(GREETINGS)
    with torch.no_grad():
        for block in [*model.encoder.block, *model.decoder.block]:
            block.layer[0].SelfAttention.o.weight.zero_()
            block.layer[-1].DenseReluDense.wo.weight.zero_()
        for block in model.decoder.block:
            attention = block.layer[1].EncDecAttention
            for projection in (attention.q, attention.k, attention.v, attention.o):
                projection.weight.zero_()
            attention.q.weight[0, 0], attention.k.weight[0, 1] = 10.0, 10.0
            for at in range(len(GREETINGS)):
                attention.v.weight[at, first_language + at] = attention.o.weight[first_language + at, at] = 1.0
        embeddings, head = model.shared.weight, model.lm_head.weight
        embeddings.zero_()
        head.zero_()
        embeddings[:, 0] = 1.0
        embeddings[0, 2] = 2.0  # the decoder starts with the unknown token
        for at, (code, (first, second)) in enumerate(GREETINGS.items()):
            mark, one, two = names[f"<2{code}>"], names[f"▁{first}"], names[f"▁{second}"]
            embeddings[mark, 1] = embeddings[mark, first_language + at] = 3.0
            embeddings[one, first_word + at] = 10.0
            embeddings[two, 1] = 10.0
            head[one, 2], head[one, first_language + at] = 2.0, 1.0
            head[two, first_word + at] = 4.0
        head[2, 1] = 4.0


def sentence_transformer(folder: Path, seed: int = 0) -> Path:
    """A BERT of 2 layers with mean pooling: vectors that differ from text to text, and mean nothing."""
    if (folder / "modules.json").is_file():
        return folder
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    backbone = folder.with_name(f"{folder.name}-backbone")
    backbone.mkdir(parents=True, exist_ok=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS.split())]
    pieces += [*LETTERS.lower(), *(f"##{letter}" for letter in LETTERS.lower())]
    vocabulary = list(dict.fromkeys(pieces))
    (backbone / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizer(str(backbone / "vocab.txt"), do_lower_case=True).save_pretrained(backbone)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.5,
    )
    BertModel(config).eval().save_pretrained(backbone)
    SentenceTransformer(modules=[Transformer(str(backbone)), Pooling(32)], device="cpu").save(str(folder))
    return folder
