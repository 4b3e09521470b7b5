"""Set phrases of conversation, also where they are said to somebody."""

from __future__ import annotations

import pytest

from actors.translation._phrasebook import set_translation


@pytest.mark.parametrize(
    ("text", "translation"),
    [
        ("Thanks, Maria.", "Obrigado, Maria."),
        ("Bye, folks!", "Tchau, pessoal!"),
        ("Good evening, Mrs. Jones.", "Boa noite, Sra. Jones."),
        ("See you tomorrow, Dad.", "Até amanhã, pai."),
        ("Sir, excuse me.", "Senhor, com licença."),
        ("Mom, I'm sorry!", "Mãe, sinto muito!"),
        ("How are you, Lee?", "Como vai você, Lee?"),
        ("No, thanks, Tom.", "Não, obrigado, Tom."),
        ("HELP ME, TOM!", "ME AJUDE, TOM!"),
        ("Thanks, it was great.", None),
        ("Wait, Tom is late.", None),
        ("No, Monday.", None),
        ("Sure, Tom?", None),
    ],
)
def test_set_phrases_are_said_to_somebody(text: str, translation: str | None) -> None:
    assert set_translation(text, "en", "pt-BR") == translation


def test_portuguese_phrases_are_said_to_somebody() -> None:
    assert set_translation("Tchau, gente!", "pt", "en") == "Bye, everyone!"
    assert set_translation("Bom dia, Sr. Melo.", "pt-PT", "en") == "Good morning, Mr. Melo."
