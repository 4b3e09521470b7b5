"""Text and tokens: what may be translated, the tokenizer of a model, and text from tokens."""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from actors.errors import EngineLoadError, ItemError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END, UNKNOWN = "</s>", "<unk>"
CONTROL_TOKENS = ("<s>", "<pad>", END, UNKNOWN, "<mask>")
UNSPACED_SCRIPTS = ("Hans", "Hant", "Jpan")
"""Scripts without a space between sentences."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""A byte of a character that the vocabulary lacks, as SentencePiece writes it."""


def check_text(text: str) -> None:
    if not text.strip():
        raise ItemError("text to translate must hold more than whitespace; found none: leave the item out")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ItemError("text to translate must be valid Unicode; found a lone surrogate: decode it again")


def tokenizer_file(folder: Path) -> Path:
    """The tokenizer of a model. Raises EngineLoadError if there is none."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise EngineLoadError(f"a translation model must have a tokenizer.json; found none in {folder}: copy it there")
    return path


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model, for texts alone. Raises EngineLoadError."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file(folder)))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # Otherwise a text with "</s>" or the name of a language in it would command the model.
    tokenizer.encode_special_tokens = True
    return tokenizer


def detokenised(tokens: Sequence[str], control_tokens: Container[str]) -> tuple[str, list[int | None]]:
    """The text, and the index of each token's word; None for tokens without text."""
    text, waiting = "", b""
    words: list[int | None] = []
    for token, following in itertools.zip_longest(tokens, tokens[1:], fillvalue=""):
        if byte := _BYTE.fullmatch(token):
            waiting += bytes.fromhex(byte[1])
        said = "" if byte or token in control_tokens else token.replace("▁", " ")
        if waiting and not _BYTE.fullmatch(following):
            said, waiting = waiting.decode("utf-8", "replace"), b""
        text += said
        words.append(len(text.split()) - 1 if said.strip() else None)
    return " ".join(text.split()), words
