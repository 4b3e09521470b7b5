"""URLs and errors as messages show them."""

from __future__ import annotations


def shown(url: str) -> str:
    """The URL for messages and logs: without a password, and without a query, which may hold a signature."""
    import httpx  # slow to import, and most dubs read no URL

    try:
        parsed = httpx.URL(url)
        return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))
    except (httpx.InvalidURL, TypeError, ValueError):
        return "the URL"


def one_line(error: Exception) -> str:
    """The error's message on one line; its type's name if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
