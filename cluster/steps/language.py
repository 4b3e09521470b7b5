"""Decides which language is spoken, from what several windows sound like and from what can be dubbed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache

from actors import languages
from actors.engine import make_engine
from actors.errors import ConfigError
from actors.types import Transcript
from cluster.config.schema import Config
from cluster.pools.routing import check_languages
from cluster.steps.records import LanguageGuess

SURE_ALONE = 0.8
"""Probability from which one window decides. Whisper-base gives 0.9 and more on a sentence, 0.2 on one word."""
SURE = 0.6
"""Pooled probability from which several windows decide."""
PRIOR_WEIGHT = 0.25
"""Weight of the container's tag among what is heard: it settles doubt, and loses against clear speech."""
NUM_BEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageChoice:
    """The language that a recording is taken to be in."""

    language: str
    probability: float
    is_uncertain: bool


class LanguageVote:
    """Pools what the windows of one recording sound like, weighted by their seconds of speech."""

    def __init__(self, can_dub: Callable[[str], bool], prior: str | None = None) -> None:
        """``can_dub`` says if a language can be translated into what is asked for. ``prior``: the file's own tag."""
        self._can_dub = can_dub
        self._prior = prior
        self._seconds: dict[str, float] = defaultdict(float)
        self._total_s = 0.0
        self._sure: LanguageGuess | None = None
        self.num_windows = 0

    def add(self, transcript: Transcript, speech_s: float) -> None:
        guesses = guesses_of(transcript)
        for guess in guesses:
            self._seconds[guess.language] += guess.probability * max(speech_s, 0.1)
        self._total_s += max(speech_s, 0.1)
        self.num_windows += 1
        top = guesses[0]
        if self._sure is None and top.probability >= SURE_ALONE and self._can_dub(top.language):
            self._sure = top

    @property
    def ranking(self) -> tuple[LanguageGuess, ...]:
        """Pooled guesses of what is heard, likeliest first, without the prior."""
        return _ranked({tag: seconds / self._total_s for tag, seconds in self._seconds.items()})

    @property
    def best(self) -> tuple[LanguageGuess, ...]:
        return self.ranking[:NUM_BEST]

    def decide(self, *, is_final: bool) -> LanguageChoice | None:
        """The choice; None if more windows should be heard first, or if nothing that is heard can be dubbed for sure.

        When ``is_final``, None means that the recording is certainly in a language that cannot be dubbed, or that
        no language is left to choose.
        """
        if self._sure is not None:
            return LanguageChoice(language=self._sure.language, probability=self._sure.probability, is_uncertain=False)
        ranking = self._with_prior()
        if not ranking:
            return None
        top, is_dubbable = ranking[0], self._can_dub(ranking[0].language)
        if is_dubbable and top.probability >= SURE and (self.num_windows > 1 or is_final):
            return LanguageChoice(language=top.language, probability=top.probability, is_uncertain=False)
        if not is_final or self.is_certain:
            return None
        return next(
            (
                LanguageChoice(language=guess.language, probability=guess.probability, is_uncertain=True)
                for guess in ranking
                if self._can_dub(guess.language)
            ),
            None,
        )

    @property
    def is_certain(self) -> bool:
        """True if what is heard leaves no doubt: one window must be surer than several together."""
        return bool(self._seconds) and self.ranking[0].probability >= (SURE if self.num_windows > 1 else SURE_ALONE)

    def contradicts(self, language: str) -> bool:
        """True if the recording certainly sounds like another language than ``language``."""
        return self.is_certain and not languages.same(self.ranking[0].language, language)

    def describe(self) -> str:
        """One phrase for people: "en (probability 0.45), el (0.28), de (0.10)"."""
        return describe_guesses(self.best)

    def _with_prior(self) -> tuple[LanguageGuess, ...]:
        pooled = {guess.language: guess.probability for guess in self.ranking}
        if self._prior is not None and pooled:
            known = next((tag for tag in pooled if languages.same(tag, self._prior)), languages.base(self._prior))
            pooled = {tag: (1 - PRIOR_WEIGHT) * probability for tag, probability in pooled.items()}
            pooled[known] = pooled.get(known, 0.0) + PRIOR_WEIGHT
        return _ranked(pooled)


def guesses_of(transcript: Transcript) -> tuple[LanguageGuess, ...]:
    """Languages that a transcript's audio sounds like, likeliest first; at least its own language."""
    ranked = transcript.language_probabilities or ((transcript.language, transcript.language_probability),)
    return tuple(LanguageGuess(language=tag, probability=probability) for tag, probability in ranked)


def contradicts(guesses: Sequence[LanguageGuess], tag: str | None) -> bool:
    """True if the guesses, best first, are certain of another language than ``tag``."""
    return (
        tag is not None
        and bool(guesses)
        and guesses[0].probability >= SURE
        and not languages.same(guesses[0].language, tag)
    )


def describe_guesses(guesses: Collection[LanguageGuess]) -> str:
    """One phrase for people: "en (probability 0.45), el (0.28), de (0.10)"."""
    labels = [f"{guess.language} ({guess.probability:.2f})" for guess in guesses]
    return ", ".join(labels).replace("(", "(probability ", 1)


def dubbable(config: Config, targets: Collection[str], own_text: Collection[str]) -> Callable[[str], bool]:
    """The test whether a language can be heard, and translated into every target without own text. Loads nothing."""
    hears = make_engine("transcription", config.transcription.engine, config.transcription.options)
    translates = make_engine("translation", config.translation.engine, config.translation.options)

    @cache
    def can_dub(language: str) -> bool:
        return hears.supports(language) and all(
            not languages.same(language, target) and (target in own_text or translates.supports(language, target))
            for target in targets
        )

    return can_dub


def refuse(config: Config, vote: LanguageVote, targets: tuple[str, ...], own_text: Collection[str]) -> ConfigError:
    """The error for a recording that is certainly in a language that cannot be dubbed into ``targets``."""
    heard, asked = vote.ranking[0].language, ",".join(targets)
    sounds = f"the language spoken sounds like {vote.describe()} in {vote.num_windows} windows of speech"
    if any(languages.same(heard, target) for target in targets):
        return ConfigError(
            f"--to must differ from the language spoken; found --to {asked}, and {sounds}; "
            "choose another --to, or, if another language is spoken, say which with --from"
        )
    try:
        check_languages(config, heard, targets, own_text=own_text)
    except ConfigError as error:
        return ConfigError(
            f"{error.message}; {sounds}; choose engines that support it (--config gpu has more languages), or, if "
            "another language is spoken, say which with --from"
        )
    return ConfigError(f"the language spoken must be known to dub into {asked}; {sounds}; say which with --from")


def _ranked(probabilities: dict[str, float]) -> tuple[LanguageGuess, ...]:
    guesses = [LanguageGuess(language=tag, probability=probability) for tag, probability in probabilities.items()]
    return tuple(sorted(guesses, key=lambda guess: -guess.probability))
