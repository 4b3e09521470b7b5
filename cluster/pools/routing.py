"""Checks that the engines support the languages and voices asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from actors import languages
from actors.engine import make_engine
from actors.errors import ConfigError
from actors.language_id import identifiable
from actors.types import Task
from cluster.casting.cast import check_cast
from cluster.casting.voices import configured_stage
from cluster.config.schema import Config


def check_languages(
    config: Config, source: str | None, targets: tuple[str, ...], *, own_text: Collection[str] = ()
) -> None:
    """Raise ConfigError if some engine cannot work on these languages, or none has a voice named for one.

    Loads nothing. Languages of ``own_text`` come as subtitles: they are neither transcribed nor translated into.
    """
    check_cast(config)
    hears = make_engine("transcription", config.transcription.engine, config.transcription.options)
    if source is not None and source not in own_text and not hears.supports(source):
        raise _unsupported("transcription", config.transcription.engine, source, hears.describe_languages())
    translates = make_engine("translation", config.translation.engine, config.translation.options)
    for target in targets:
        if target not in own_text and not any(translates.supports(each, target) for each in _sources(source, target)):
            pair = f"{source or 'some language'}→{target}"
            raise _unsupported("translation", config.translation.engine, pair, translates.describe_languages())
        stage = configured_stage(config, target)
        speaks = make_engine("speech", stage.engine, stage.options)
        if not speaks.supports(target):
            raise _unsupported("speech", stage.engine, target, speaks.describe_languages())


def _sources(source: str | None, target: str) -> Iterator[str]:
    """The language of the source; if it is not known, all that it may be, the most likely first."""
    if source is not None:
        yield source
        return
    for possible in ("en", "pt"):
        if not languages.same(possible, target):
            yield possible
    yield from (possible for possible in sorted(identifiable()) if not languages.same(possible, target))


def _unsupported(task: Task, engine: str, found: str, known: str) -> ConfigError:
    return ConfigError(f"{task} engine {engine} must support {found}; it supports {known}")
