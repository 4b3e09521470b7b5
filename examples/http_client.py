"""Dub by a running service: upload, follow the lines as they are spoken, download.

``raydub serve`` in one terminal, ``python examples/http_client.py talk.mp4 --to pt`` in another.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import httpx


def dub(client: httpx.Client, source: Path, to: str, out: Path) -> dict[str, Any]:
    """The dub as the service describes it."""
    with source.open("rb") as file:
        created = client.post("/v1/dubs", files={"file": (source.name, file)}, data={"to": to})
    created.raise_for_status()
    url = f"/v1/dubs/{created.json()['id']}"
    with client.stream("GET", f"{url}/events", timeout=None) as events:
        kind = ""
        for line in events.iter_lines():  # server-sent events: a line with the kind, then one with JSON
            field, _, value = line.partition(": ")
            if field == "event":
                kind = value
            elif field == "data" and kind == "utterance":
                utterance = json.loads(value)
                print(f"{utterance['start_s']:7.2f} s  {utterance['text']}")
    found: dict[str, Any] = client.get(url).raise_for_status().json()
    if found["state"] == "done":
        with client.stream("GET", f"{url}/media") as media, out.open("wb") as file:
            media.raise_for_status()
            for chunk in media.iter_bytes():
                file.write(chunk)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--to", default="pt")
    parser.add_argument("--out", type=Path, default=Path("dubbed.mp4"))
    parser.add_argument("--url", default="http://localhost:8000")
    arguments = parser.parse_args()
    key = os.environ.get("RAYDUB_API_KEY")
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=arguments.url, headers=headers, timeout=60) as client:
        found = dub(client, arguments.source, arguments.to, arguments.out)
    print(found["state"], found.get("error") or arguments.out)


if __name__ == "__main__":
    main()
