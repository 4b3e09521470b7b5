"""Layout of subtitles, and limits on subtitle files."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator


class SubtitleConfig(BaseModel):
    """Layout, by default that of most broadcasters: two lines of 42 characters; and limits on given files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_line_chars: int = Field(default=42, ge=8, le=200)
    """Wide (East Asian) characters count twice."""
    max_lines: int = Field(default=2, ge=1, le=8)
    max_read_bytes: int = Field(default=10_000_000, ge=1)
    """Size limit of a file given as --subtitles or --target-subtitles."""
    encoding: str | None = None
    """Encoding of the given files; None to find it out."""
    max_read_cues: int = Field(default=50_000, ge=1)

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        if encoding is None:
            return None
        try:
            "".encode(encoding)
        except (LookupError, ValueError) as error:
            raise ValueError(
                f"must be a text encoding that Python knows, such as cp1251 or shift_jis; found {encoding!r}"
            ) from error
        return encoding
