"""The pronunciation of a word, as a job's lexicon has it. The configuration needs it: it imports no text library."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Pronunciation(BaseModel):
    """The pronunciation of one word or phrase."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alias: str | None = Field(default=None, min_length=1, max_length=200)
    """Words that are spoken instead."""
    ipa: str | None = Field(default=None, min_length=1, max_length=200, pattern=r"^[^\[\]]+$")
    """Phonemes; engines that take none speak the alias, or else the word as it is."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"alias": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_any(self) -> Pronunciation:
        if self.alias is None and self.ipa is None:
            raise ValueError("a pronunciation must have an alias or ipa; found neither")
        return self
