"""Short phrases through the packaged translator and the check of its translations: each is right, or is flagged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from actors.engine import make_engine
from actors.types import ItemFailure, Task, TranslateRequest, Translation
from cluster.config.load import load_config
from cluster.config.schema import Config, StageConfig
from cluster.steps.doubt import TranslationCheck
from cluster.steps.similarity import SimilarityScorer

ENGLISH = {
    "Thank you.": "obrigado",
    "Excuse me.": "com licença|desculpe",
    "Bye.": "tchau|adeus",
    "Thank you for watching.": "obrigado por assistir",
    "Thank you so much, everyone!": "muito obrigado, todos|muito obrigado a todos|muito obrigado, pessoal",
    "Thank you, Maria.": "obrigado, maria",
    "Thanks.": "obrigado",
    "Sorry!": "desculpe",
    "I’m sorry.": "sinto muito",
    "You're welcome.": "de nada",
    "GOOD MORNING!": "bom dia",
    "Good night...": "boa noite",
    "See you tomorrow.": "até amanhã",
    "Yeah.": "sim",
    "No, thanks.": "não, obrigado",
    "Of course.": "claro",
    "Shut up!": "cale a boca",
    "Sit down.": "sente-se",
    "What?": "o quê",
    "What?!": "o quê",
    "Really?": "sério",
    "Help!": "socorro|ajuda",
    "Watch out!": "cuidado",
    "Cheers!": "saúde",
    "Great!": "ótimo",
    "Exactly.": "exatamente",
    "Nice to meet you.": "prazer em conhecê-lo",
    "Merry Christmas!": "feliz natal",
    "I love you.": "eu te amo",
    "Where is the toilet?": "onde está o banheiro|onde fica o banheiro",
    "It depends.": "depende",
    "Good question.": "boa pergunta",
    "I am hungry.": "estou com fome",
    "Go away.": "vá embora",
    "Dude.": "cara",
    "Peekaboo!": "achou|cucu",
    "Hooray!": "viva",
    "Maybe.": "talvez",
    "Not yet.": "ainda não",
    "Nothing.": "nada",
    "I agree.": "eu concordo|concordo",
    "Hotel.": "hotel",
    "12345": "12345",
}
PORTUGUESE = {
    "Obrigada.": "thank you|thanks",
    "Valeu!": "thanks",
    "Com licença.": "excuse me",
    "Desculpa!": "sorry",
    "Tchau, tchau.": "bye|bye, bye|bye-bye",
    "Tchau.": "bye|goodbye",
    "Adeus.": "goodbye",
    "De nada.": "you're welcome",
    "Boa noite.": "good night|good evening",
    "Até logo.": "see you later",
    "Oi, tudo bem?": "hi, how are you",
    "Muito prazer.": "nice to meet you",
    "Sinto muito.": "i'm sorry",
    "Não faz mal.": "never mind",
    "Socorro!": "help",
    "Cuidado!": "be careful|watch out",
    "Saúde!": "cheers|bless you",
    "Sente-se.": "sit down",
    "Cala a boca.": "shut up",
    "Entre.": "come in",
    "Nossa!": "wow",
    "Poxa!": "gosh",
    "Legal.": "cool",
    "Com certeza.": "certainly|for sure",
    "Que horas são?": "what time is it",
    "Quanto custa?": "how much does it cost",
    "Estou com fome.": "i am hungry|i'm hungry",
    "Bem-vindos.": "welcome",
    "Feliz aniversário!": "happy birthday",
    "Bom apetite!": "enjoy your meal",
    "Boa pergunta.": "good question",
    "Depende.": "it depends",
    "Tomara!": "i hope so|hopefully",
    "Meus pêsames.": "my condolences",
    "Que saudade!": "i miss you|i miss it",
    "Fica tranquilo.": "don't worry|relax|stay calm",
    "Ainda não.": "not yet",
    "Quem é você?": "who are you",
    "Não se preocupe.": "don't worry|do not worry",
    "Eu também.": "me too",
    "Saudade.": "longing|missing you",
    "Tanto faz.": "whatever",
}


class Alone:
    """A pool of one engine, in this process."""

    def __init__(self, task: Task, stage: StageConfig) -> None:
        self.name = task
        self.engine = make_engine(task, stage.engine, stage.options)
        self.engine.load()

    async def submit(self, request: Any, order: float) -> Any:
        (found,) = self.engine.run([request])
        if isinstance(found, ItemFailure):
            raise found.error
        return found


@pytest.fixture(scope="module")
def models() -> Iterator[tuple[Config, Alone, Alone]]:
    config = load_config()
    pools = Alone("translation", config.translation), Alone("embedding", config.embedding)
    yield config, *pools
    for pool in pools:
        pool.engine.close()


@pytest.mark.parametrize(
    ("text", "accepted", "source", "target"),
    [
        *((text, accepted, "en", "pt") for text, accepted in ENGLISH.items()),
        *((text, accepted, "pt-BR", "en") for text, accepted in PORTUGUESE.items()),
    ],
)
async def test_a_short_phrase_is_right_or_flagged(
    models: tuple[Config, Alone, Alone], text: str, accepted: str, source: str, target: str
) -> None:
    config, translation, embedding = models
    similarity = SimilarityScorer(config, embedding)  # type: ignore[arg-type]
    check = TranslationCheck(config.translation, translation, similarity, target)  # type: ignore[arg-type]
    request = TranslateRequest(
        text=text, source_language=source, target_language=target, num_candidates=config.translation.num_candidates
    )
    found: Translation = await translation.submit(request, 0.0)
    kept, doubt = await check.sound(text, source, found.candidates, 0.0)
    cosines = await similarity.cosines(text, [candidate.text for candidate in kept], 0.0)
    chosen = max(zip(cosines, kept, strict=True), key=lambda each: each[0] or 0.0)[1].text
    is_right = chosen.lower().strip(".!?… ") in accepted.split("|")
    assert is_right or doubt is not None, chosen
    assert text[0].islower() or not chosen[0].islower()


async def test_agreement_is_kept(models: tuple[Config, Alone, Alone]) -> None:
    _, translation, _ = models
    request = TranslateRequest(
        text="The woman who sold me the ticket was very tired.",
        source_language="en",
        target_language="pt",
        num_candidates=6,
    )
    found: Translation = await translation.submit(request, 0.0)
    assert found.candidates[0].text == "A mulher que me vendeu o bilhete estava muito cansada."
    assert all("cansado" not in candidate.text for candidate in found.candidates)
