"""Makes the README's pictures, docs/report.webp and docs/page.webp: ``python docs/make_pictures.py``.

A short talk is made and dubbed by the service with the offline models; then a headless Chromium opens the report and
the page. It takes some minutes on two cores.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

import raydub
from cluster.demo.talk import make_talk
from tests.api.server import finished, running
from tests.api.test_page import until

DOCS = Path(__file__).parent
TALK_S = 40.0
MAX_BYTES = 150_000
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
WAIT_MS = 60_000


def main() -> None:
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
