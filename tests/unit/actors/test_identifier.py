"""The model that tells languages apart: one of it, whatever is asked of it at the same time."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from py3langid.langid import LanguageIdentifier

from actors import language_id


def test_threads_and_sets_of_languages_share_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    load, num_loaded = LanguageIdentifier.from_model_file, Counter[str]()

    def counted(*arguments: Any, **options: Any) -> LanguageIdentifier:
        num_loaded["model"] += 1
        return load(*arguments, **options)

    monkeypatch.setattr(LanguageIdentifier, "from_model_file", counted)
    for cached in (language_id._model, language_id._identifier, language_id.identifiable):
        cached.cache_clear()
    pairs = [frozenset({"en", other}) for other in ("pt", "es", "fr", "it", "de")]
    with ThreadPoolExecutor(len(pairs)) as threads:
        found = list(threads.map(lambda pair: language_id.identify("the harbour was calm", pair)[0][0], pairs))
    assert found == ["en"] * len(pairs)
    assert num_loaded["model"] == 1
