"""Makes the pictures of the documentation: ``python docs/make_pictures.py [report page dashboard]``.

report and page: a short talk is made and dubbed by the service with the offline models; then a headless Chromium opens
the report and the page. It takes some minutes on two cores. dashboard: the same, during a run of 12 dubs.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

import raydub
from cluster.demo.talk import make_talk
from tests.api.server import finished, running
from tests.api.test_page import until
from tests.media import AudioSpec, VideoSpec, make_media, silence, speech

DOCS = Path(__file__).parent
TALK_S = 40.0
MAX_BYTES = 150_000
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
WAIT_MS = 60_000
NUM_DUBS, NUM_AT_ONCE = 12, 4
SENTENCES = (
    "Good morning, everyone, and welcome.",
    "Today we talk about the sea.",
    "A drop of water holds more life than a city holds people.",
    "Where do the whales go in winter?",
    "Nobody knew the answer for two hundred years.",
    "Then somebody listened.",
    "The boats come home before the storm.",
)


def main() -> None:
    wanted = set(sys.argv[1:]) or {"report", "page", "dashboard"}
    if wanted & {"report", "page"}:
        _dub()
    if "dashboard" in wanted:
        _dashboard(DOCS / "dashboard.webp")


def _dashboard(path: Path, *, color_scheme: Literal["light", "dark"] = "light", width: int = 1200) -> None:
    """Dub talks of several lengths, and open the dashboard once most are done, while others run."""
    with tempfile.TemporaryDirectory(prefix="raydub-pictures-") as name, sync_playwright() as playwright:
        folder = Path(name)
        talks = [_short_talk(folder / f"talk_{number + 1}.mp4", number) for number in range(NUM_DUBS)]
        settings = (f"pipeline.max_videos={NUM_AT_ONCE}", "price.cpu_hour=0.05", "serve.dashboard.sample_s=2")
        with running(folder / "data", *settings) as service, service.client() as client:
            for talk in talks:
                with talk.open("rb") as file:
                    made = client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": (talk.name, file)})
                made.raise_for_status()
            while _num_done(client) < NUM_DUBS - NUM_AT_ONCE + 1:
                time.sleep(0.2)
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=color_scheme)
            page.goto(f"{service.url}/dashboard")
            expect(page.locator("#scatter circle").first).to_be_visible(timeout=WAIT_MS)
            _save(page.screenshot(full_page=True), path)
            browser.close()


def _short_talk(path: Path, number: int) -> Path:
    """Some seconds of English, as many as its number makes them."""
    parts = [silence(0.5)]
    for at in range(1 + number % 4):
        parts += [speech(SENTENCES[(3 * number + at) % len(SENTENCES)]), silence(0.8)]
    samples = np.concatenate([*parts, silence(1.0 + number % 3)])
    picture = VideoSpec(duration_s=len(samples) / 48_000, options={"g": "50"})
    return make_media(path, audio=[AudioSpec(samples=samples)], video=[picture])


def _num_done(client: httpx.Client) -> int:
    dubs = client.get("/v1/dubs", params={"limit": 50}).json()["dubs"]
    assert all(dub["state"] != "failed" for dub in dubs), dubs
    return sum(dub["state"] == "done" for dub in dubs)


def _dub() -> None:
    with tempfile.TemporaryDirectory(prefix="raydub-pictures-") as name, sync_playwright() as playwright:
        folder = Path(name)
        talk = folder / "small_wonders.mp4"
        make_talk(talk, TALK_S)
        config = raydub.Dubber(settings={"ray.mode": "inline", "store.url": str(folder / "store")}).config
        result = raydub.dub(talk, to="pt", source_language="en", config=config, out=folder / "out")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        _report(browser, result.report)
        # From the store: the service need not compute it again.
        with running(folder / "data", f"store.url={folder / 'store'}") as service, service.client() as client:
            with talk.open("rb") as file:
                created = client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": (talk.name, file)})
            dub = finished(client, created.raise_for_status().json()["id"])
            assert dub["state"] == "done", dub
            _page(browser, service.url)
        browser.close()


def _page(browser: Browser, url: str) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 760})
    page.goto(url)
    page.locator("#dubs .what").first.click()
    expect(page.locator("#lines li").first).to_be_visible(timeout=WAIT_MS)
    _show_frame(page)
    _save(page.screenshot(), DOCS / "page.webp")


def _report(browser: Browser, path: Path) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 1060})
    page.goto(path.as_uri())
    _show_frame(page)
    # The part that says something about the dub, and not about the load of this machine.
    page.evaluate("document.querySelector('video').closest('section').scrollIntoView()")
    _save(page.screenshot(), DOCS / "report.webp")


def _show_frame(page: Page) -> None:
    """Play some of the video and stop, so that the player shows a picture and no spinner."""
    page.evaluate("document.querySelector('video').muted = true; document.querySelector('video').play()")
    until(page, "document.querySelector('video').currentTime > 6")
    page.evaluate("document.querySelector('video').pause()")
    page.mouse.move(1, 1)


def _save(png: bytes, path: Path) -> None:
    """As WebP, in the best quality that is small enough."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (90, 80, 70, 60, 50):
        image.save(path, "WEBP", quality=quality, method=6)
        if path.stat().st_size <= MAX_BYTES:
            print(f"{path.name}: {path.stat().st_size:,} bytes at quality {quality}")
            return
    raise ValueError(f"{path.name} must be at most {MAX_BYTES} bytes; found {path.stat().st_size}; show less")


if __name__ == "__main__":
    main()
