"""Beside which words do people pause? Learns the table of `cluster/alignment/breaks.json` from manual pages.

    apt-get install manpages{,-cs,-da,-de,-es,-fi,-fr,-hu,-it,-ja,-nl,-pl,-pt-br,-ro,-ru,-sv,-tr,-uk,-zh}
    python bench/learn_breaks.py /usr/share/man > cluster/alignment/breaks.json

In punctuated text, marks stand where a reader would pause. For every common word the script counts how
often a mark follows it and how often one precedes it, and writes both as log odds ratios to the
language's average word. Only these figures leave it, none of the text. They were made from Debian 12's
packages, each with its `-dev` part. A folder that has a subfolder for each language, with text files
in it, will do as well.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from actors import languages
from actors.errors import ConfigError
from cluster.alignment.pauses import ends_in_mark, plain
from cluster.alignment.tokens import tokenise

MIN_COUNT = 40
MAX_WORDS = 100
"""Per language, the most frequent: mostly function words, which no topic changes."""
MIN_TOKENS = 20_000
"""A language with less text is left out."""
PRIOR = 10.0
"""Pseudo-counts at the language's average, which hold rare words near it."""
MAX_ODDS = 3.5
MAX_CHARACTERS = 12_000_000
"""Read per language."""

_ESCAPE = re.compile(r"\\f\(?..?|\\[*(].{2}|\\[&,/|^%:]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    table: dict[str, dict[str, tuple[float, float]]] = {}
    for language, files in sorted(files_by_language(folder).items()):
        words = learn(language, files)
        print(f"{language}: {len(files)} files, {len(words)} words", file=sys.stderr)
        if words:
            table[language] = words
    lines = ",\n".join(
        f"{json.dumps(language)}: {json.dumps(words, ensure_ascii=False, separators=(',', ':'))}"
        for language, words in table.items()
    )
    print(f"{{\n{lines}\n}}")


def files_by_language(folder: Path) -> dict[str, list[Path]]:
    """Pages in no language's folder are English."""
    found: dict[str, list[Path]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        name = path.relative_to(folder).parts[0].split(".")[0]
        try:
            tag = "en" if re.fullmatch(r"man\d", name) else languages.normalise(name)
        except ConfigError:
            continue
        key = tag if tag.startswith("zh") else languages.base(tag)
        found.setdefault({"zh-CN": "zh", "zh-TW": "zh-Hant"}.get(key, key), []).append(path)
    return found


def learn(language: str, files: list[Path]) -> dict[str, tuple[float, float]]:
    """Word → log odds ratios of a mark after it, and before it."""
    seen: Counter[str] = Counter()
    followed: Counter[str] = Counter()
    preceded: Counter[str] = Counter()
    num_characters = 0
    for text in paragraphs(language, files):
        num_characters += len(text)
        if num_characters > MAX_CHARACTERS:
            break
        tokens = tokenise(text)
        for token, following in itertools.pairwise(tokens):
            if not (word := plain(token)) or not (next_word := plain(following)):
                continue
            mark = ends_in_mark(token)
            seen[word] += 1
            followed[word] += mark
            preceded[next_word] += mark
    total = sum(seen.values())
    if total < MIN_TOKENS:
        return {}
    rate = sum(followed.values()) / total
    scored = {
        word: (log_odds_ratio(followed[word], count, rate), log_odds_ratio(preceded[word], count, rate))
        for word, count in seen.items()
        if count >= MIN_COUNT and word.isalpha()
    }

    kept = sorted(sorted(scored, key=lambda word: -seen[word])[:MAX_WORDS])
    return {word: scored[word] for word in kept}


def log_odds_ratio(num_marked: int, num_seen: int, rate: float) -> float:
    share = min(0.99, (num_marked + PRIOR * rate) / (num_seen + PRIOR))
    odds = math.log(share / (1 - share)) - math.log(rate / (1 - rate))
    return round(max(-MAX_ODDS, min(MAX_ODDS, odds)), 1)


def paragraphs(language: str, files: list[Path]) -> Iterator[str]:
    """Running text, without the page's commands; each once, and none that was left in English."""
    given: set[str] = set()
    for path in files:
        lines: list[str] = []
        for line in [*read(path).splitlines(), ""]:
            if not line.startswith((".", "'")) and line.strip():
                lines.append(_ESCAPE.sub("", line).replace("\\-", "-").strip())
                continue
            text = " ".join(lines)
            # One line alone is a heading, a list's item, an example.
            if len(lines) > 1 and text not in given and (language == "en" or " the " not in text):
                given.add(text)
                yield text
            lines = []


def read(path: Path) -> str:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return data.decode("utf-8", errors="replace")


if __name__ == "__main__":
    main()
