from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from actors.types import CERTAIN, Candidate, Embedding, EmbedRequest, TranslateRequest, Translation
from cluster.config.load import load_config
from cluster.flags import Flag
from cluster.steps.doubt import Doubt, TranslationCheck, suspicion
from cluster.steps.similarity import SimilarityScorer


@pytest.mark.parametrize(
    ("source", "text", "pair", "flag"),
    [
        ("Whatever you say.", "Whatever you say.", ("en", "pt"), Flag.OFF_LANGUAGE),
        ("Peekaboo!", "Peekaboo!", ("en", "pt"), Flag.OFF_LANGUAGE),
        ("Não quero falar com você agora.", "Não quero falar with you agora.", ("pt-BR", "en"), Flag.OFF_LANGUAGE),
        ("The weather is nice today, my dear.", "The weather é nice today, my dear.", ("en", "pt"), Flag.OFF_LANGUAGE),
        ("Maria, wait.", "Maria, espere (em inglês).", ("en", "pt"), Flag.TRANSLATION_DOUBTFUL),
        ("Now.", "Obrigado por enviar uma edição.", ("en", "pt"), Flag.TRANSLATION_DOUBTFUL),
        ("We walked to the old harbour and watched the ships leave in the rain.", "Nós.", ("en", "pt"),
         Flag.TRANSLATION_DOUBTFUL),
    ],
)  # fmt: skip
def test_what_cannot_be_a_translation_is_doubted(source: str, text: str, pair: tuple[str, str], flag: Flag) -> None:
    found = suspicion(source, text, *pair)
    assert found is not None
    assert found.flag is flag
    assert found.reason


@pytest.mark.parametrize(
    ("source", "text", "pair"),
    [
        ("Banana.", "Banana.", ("en", "pt")),
        ("12345", "12345", ("en", "pt")),
        ("Internet radio", "Internet rádio", ("en", "pt")),
        ("São Paulo e Rio de Janeiro.", "São Paulo and Rio de Janeiro.", ("pt", "en")),
        ("Wait (please).", "Espere (por favor).", ("en", "pt")),
        ("Why?", "Por quê?", ("en", "pt")),
        ("Você é professor de história?", "Are you a history professor?", ("pt", "en")),
        ("La casa es de mi hermana.", "A casa é de minha irmã.", ("es", "pt")),
        (
            "我们昨天去了港口，看见了很多船。",
            "We went to the harbour yesterday and saw a great many ships.",
            ("zh", "en"),
        ),
    ],
)
def test_shared_words_names_and_lengths_are_no_reason(source: str, text: str, pair: tuple[str, str]) -> None:
    assert suspicion(source, text, *pair) is None


class Texts:
    """A translation pool that knows these texts, and an embedding pool whose vectors agree as ``groups`` say."""

    name = "texts"

    def __init__(self, translations: Mapping[str, str], *groups: tuple[str, ...]) -> None:
        self._translations = translations
        self._groups = groups
        self.asked: list[str] = []

    async def submit(self, request: Any, order: float) -> Any:
        if isinstance(request, TranslateRequest):
            self.asked.append(request.text)
            return Translation(candidates=(Candidate(text=self._translations[request.text], score=None),))
        assert isinstance(request, EmbedRequest)
        own = next((at for at, group in enumerate(self._groups) if request.text in group), len(self._groups))
        return Embedding(vector=np.eye(len(self._groups) + 1, dtype=np.float32)[own])


async def sound(
    pool: Texts, source: str, *candidates: str, score: float | None = None
) -> tuple[list[str], Doubt | None]:
    config = load_config()
    similarity = SimilarityScorer(config, pool)  # type: ignore[arg-type]
    check = TranslationCheck(config.translation, pool, similarity, "pt")  # type: ignore[arg-type]
    given = [Candidate(text=text, score=score) for text in candidates]
    kept, doubt = await check.sound(source, "en", given, 0.0)
    return [candidate.text for candidate in kept], doubt


async def test_a_candidate_that_means_something_else_is_not_offered() -> None:
    pool = Texts({"Me emcue.": "I'm incue.", "Espere aí.": "Wait there."}, ("Hang on.", "Espere aí.", "Wait there."))
    assert await sound(pool, "Hang on.", "Me emcue.", "Espere aí.") == (["Espere aí."], None)


async def test_another_mark_is_tried_before_a_line_is_flagged() -> None:
    translations = {"Me emcue.": "I'm incue.", "Hang on!": "Espere aí!", "Espere aí.": "Wait there."}
    pool = Texts(translations, ("Hang on.", "Espere aí.", "Wait there."))
    assert await sound(pool, "Hang on.", "Me emcue.") == (["Espere aí."], None)


async def test_the_best_of_doubtful_ones_is_said_with_its_reason() -> None:
    pool = Texts(
        {"Me emcue.": "I'm incue.", "Whatever!": "Oi!", "Oi.": "Hi.", "Whatever.": "Whatever."},
        ("Whatever.", "Me emcue."),
    )
    kept, doubt = await sound(pool, "Whatever.", "Whatever.", "Me emcue.")
    assert kept == ["Me emcue."]
    assert doubt is not None
    assert doubt.flag is Flag.TRANSLATION_DOUBTFUL
    assert "I'm incue." in doubt.reason


async def test_long_lines_that_look_right_cost_nothing() -> None:
    pool = Texts({})
    text = "A mulher que me vendeu o bilhete estava cansada."
    assert await sound(pool, "The woman who sold me the ticket was tired.", text) == ([text], None)
    assert pool.asked == []


async def test_a_translation_that_was_looked_up_is_not_doubted() -> None:
    pool = Texts({})
    assert await sound(pool, "Bless you!", "Saúde!", score=CERTAIN) == (["Saúde!"], None)
    assert pool.asked == []
