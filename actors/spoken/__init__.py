"""Rewrites written text as it is read aloud: numbers, dates, times, money, units, abbreviations, symbols.

Never phonemes, and never the text of subtitles. A language is one file with a ``GRAMMAR``; text in a language
without one keeps its words and loses only signs that nobody reads aloud, such as emoji.
"""

from __future__ import annotations

from actors.spoken.text import has_words, spoken_form

__all__ = ["has_words", "spoken_form"]
