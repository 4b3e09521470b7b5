"""Set phrases of conversation, English and Portuguese.

A tiny model knows them least: it answers "Thank you." with a stock sentence of its training data. A sentence that
is one of these phrases, and nothing else, is looked up instead.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from actors import languages

_PHRASES = """
yes|yeah|yep|yup = sim
no|nope|nah = não
please = por favor
thank you|thanks = obrigado|obrigada
thanks = valeu
thank you very much|thank you so much|many thanks|thanks a lot|thanks so much = muito obrigado|muito obrigada
thanks a million|thank you very much indeed = muito obrigado
thank you for watching|thanks for watching = obrigado por assistir|obrigada por assistir
thank you for listening|thanks for listening = obrigado por ouvir|obrigada por ouvir
thank you for coming|thanks for coming = obrigado por vir|obrigada por vir
thank you for your help|thanks for your help = obrigado pela ajuda|obrigada pela ajuda
thank you for your attention|thanks for your attention = obrigado pela atenção|obrigada pela atenção
thank you, everyone|thank you everyone|thanks, everyone|thank you all = obrigado a todos|obrigada a todos
no, thank you|no, thanks|no thanks|no thank you = não, obrigado|não, obrigada
yes, please = sim, por favor
fine, thanks|fine, thank you = bem, obrigado|bem, obrigada
you're welcome|you are welcome|don't mention it = de nada|por nada
my pleasure = o prazer é meu|o prazer é todo meu
sorry = desculpe|desculpa|perdão
excuse me|pardon me = com licença
I'm sorry|I am sorry = sinto muito|me desculpe|lamento
I'm so sorry|I am so sorry|I'm very sorry = sinto muito mesmo
I beg your pardon = me perdoe|peço perdão
pardon?|sorry?|I beg your pardon? = como?
never mind|no matter = não faz mal|não importa|deixa para lá|deixa pra lá
no problem = sem problema|não há problema|sem problemas
bye|see ya|bye bye|bye-bye|bye, bye = tchau|tchau tchau|tchau, tchau
goodbye|good-bye|farewell = adeus
see you later|see you = até logo|até mais tarde|até mais
see you soon = até breve|até em breve
see you tomorrow = até amanhã
good morning = bom dia
good afternoon = boa tarde
good night|goodnight = boa noite
good evening = boa noite
hello = olá|alô
hi|howdy = oi
hey = ei
hello, everyone|hello everyone = olá a todos|olá, pessoal
hi, everyone|hi everyone = oi, pessoal
how are you?|how are you doing? = como vai você?|como vai?|tudo bem?
hi, how are you? = oi, tudo bem?|oi, como vai?
hello, how are you? = olá, tudo bem?|olá, como vai?
what's up?|how's it going? = e aí?|beleza?
nice to meet you|pleased to meet you = prazer em conhecê-lo|prazer em conhecê-la|muito prazer|prazer
welcome = bem-vindo|bem-vindos|bem-vinda|bem-vindas
welcome back = bem-vindo de volta|bem-vindos de volta|bem-vinda de volta
of course|sure = claro|é claro|claro que sim
certainly = com certeza|pois não
exactly = exatamente|exato
great = ótimo|que ótimo
awesome|amazing = incrível
cool = legal|beleza|bacana
perfect = perfeito
well done = muito bem
good job|great job = bom trabalho|ótimo trabalho
wow = uau|nossa
hooray|hurray = viva|oba
oops|whoops = ops
ouch = ai
gosh = puxa|poxa
whatever = tanto faz
cheers = saúde
bless you = saúde
amen = amém
let's go = vamos lá|vamos
come on = vamos
come in = entre|pode entrar
sit down|have a seat = sente-se|senta
get out = saia|sai daqui
shut up = cale a boca|cala a boca|cale-se
quiet|be quiet = silêncio|fique quieto|fica quieto
enough|that's enough = chega|basta
stop = pare
run = corra|corre
hurry up = apresse-se|depressa
wait = espere|espera
wait a minute|just a minute|just a moment|one moment = um momento|só um momento|só um minuto
listen = escute|escuta|ouça
look = olhe|olha
help = socorro
help me = me ajude|me ajuda|ajude-me
be careful|watch out|look out = cuidado|tenha cuidado
calm down|easy = calma|acalme-se
take care = cuide-se|se cuida
enjoy = aproveite|aproveitem
enjoy your meal = bom apetite
got it|I got it = entendi
I understand = eu entendo
I see = entendo
me too|me, too = eu também
me neither = eu também não|nem eu
same to you|you too = igualmente
have a nice day|have a good day = tenha um bom dia
sleep well = durma bem
good luck = boa sorte
congratulations = parabéns
happy birthday = feliz aniversário
merry Christmas = feliz Natal
happy New Year = feliz Ano Novo
ladies and gentlemen = senhoras e senhores
once more|once again|one more time = mais uma vez|de novo
next = próximo
music = música
applause = aplausos
laughter = risos
what time is it? = que horas são?
nonsense = bobagem|besteira
long time no see = quanto tempo
what a pity = que pena
gotcha = te peguei
what? = o quê?|quê?
who are you? = quem é você?
really?|seriously? = sério?|é sério?
is that true? = é verdade?
how much is it? = quanto é?
how much does it cost? = quanto custa?
are you okay?|are you ok?|are you all right? = você está bem?
don't worry = não se preocupe
I don't know = eu não sei|não sei
I love you = eu te amo|te amo
not at all = de modo nenhum|imagina
no way = de jeito nenhum|nem pensar
can I help you?|may I help you? = posso ajudar?|pois não?
by the way = a propósito|aliás
you know what? = sabe de uma coisa?|quer saber?
go ahead = vá em frente|vai em frente
my God|oh my God = meu Deus|ai, meu Deus
have a good trip|bon voyage = boa viagem
"""
"""A line holds English phrases, then Portuguese ones. Each is translated by the other side's first one, of the first
line that has it."""

_ADDRESSES = """
everyone|everybody|guys|folks|people|all = pessoal|gente
ladies and gentlemen = senhoras e senhores
sir = senhor
ma'am|madam = senhora|dona
miss = senhorita|moça
mister = seu moço
my friend = meu amigo|minha amiga
my friends = meus amigos|minhas amigas
friends = amigos|amigas
friend|pal = amigo|amiga
man|dude|bro|buddy|mate = cara|mano
mom|mum|mother|mommy|mummy = mãe|mamãe
dad|father|daddy = pai|papai
grandma|grandmother|granny = vovó|avó
grandpa|grandfather = vovô|avô
son = filho
my son = meu filho
my daughter = minha filha
honey|darling|sweetheart|dear = querida|querido
my love = meu amor
kids|children = crianças
boys = meninos
girls = meninas
boy = menino
girl = menina
doctor = doutor|doutora
professor = professor
teacher = professora
officer = policial
captain = capitão
boss = chefe
God = Deus
my God = meu Deus
Lord = Senhor
"""
"""Words by which people are addressed, as above."""
_TITLES = """
Mr. = Sr.|seu
Mrs.|Ms. = Sra.|dona
Miss = Srta.
Dr. = Dr.|Dra.
"""
"""Titles before a name, as above."""
_UNADDRESSED = frozenset({"yes", "no", "next", "music", "applause", "laughter", "sim", "não", "próximo", "música"})
"""Phrases after which a name is rather an answer than an address."""
_NAME = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*\.?")

_MARKS = "?.!…"


@functools.cache
def _book(source: str, lines: str = _PHRASES) -> Mapping[str, str]:
    """Phrase in ``source``, en or pt → its translation."""
    found: dict[str, str] = {}
    for line in lines.strip().splitlines():
        english, portuguese = (side.strip().split("|") for side in line.split(" = "))
        phrases, translations = (english, portuguese) if source == "en" else (portuguese, english)
        for phrase in phrases:
            found.setdefault(phrase.lower(), translations[0])
    return found


def set_translation(text: str, source: str, target: str) -> str | None:
    """The translation of a text that is a set phrase, perhaps with an address ("Thank you, Anna."), with its capitals
    and marks; None of another text."""
    source = languages.base(source)
    if {source, languages.base(target)} != {"en", "pt"}:
        return None
    text = " ".join(text.split()).replace("’", "'")
    body = text.rstrip(_MARKS)
    marks = text[len(body) :]
    # A question is a phrase of its own: "Sure?" is not "Claro?".
    mark = "?" if "?" in marks else ""
    if (phrase := _phrase(body, mark, source)) is not None:
        return _cased(phrase, body) + marks
    first, comma, last = body.rpartition(", ")
    if not comma:
        return None
    if (phrase := _addressed(first, mark, source)) and (address := _address(last, source)):
        return _shouted(f"{_cased(phrase, first)}, {address}{marks}", text)
    first, _, last = body.partition(", ")
    if (phrase := _addressed(last, mark, source)) and (address := _address(first, source)):
        return _shouted(f"{_cased(address, first)}, {phrase}{marks}", text)
    return None


def _phrase(body: str, mark: str, source: str) -> str | None:
    phrase = _book(source).get(body.lower() + mark)
    return None if phrase is None else phrase.rstrip("?")


def _addressed(body: str, mark: str, source: str) -> str | None:
    """The translation of a phrase that may be said to somebody by name."""
    return None if body.lower() in _UNADDRESSED else _phrase(body, mark, source)


def _address(words: str, source: str) -> str | None:
    """The translation of an address; a name stays as it is. None of other words."""
    if (known := _book(source, _ADDRESSES).get(words.lower())) is not None:
        return known
    *titles, name = words.split(" ")
    if len(titles) > 2 or not all(_NAME.fullmatch(word) and word[0].isupper() for word in (*titles, name)):
        return None
    return " ".join([*(_book(source, _TITLES).get(word.lower(), word) for word in titles), name])


def _cased(phrase: str, like: str) -> str:
    return _shouted(phrase[:1].upper() + phrase[1:] if like[:1].isupper() else phrase, like)


def _shouted(phrase: str, like: str) -> str:
    return phrase.upper() if len(like) > 2 and like.isupper() else phrase
