"""The page, used as a person would, in a real browser."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.api.server import Running

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
)
LONG_MS = 240_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def page(service: Running) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        page.set_default_timeout(60_000)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(service.url)
        yield page
        browser.close()
        assert complaints == []


def until(page: Page, condition: str) -> None:
    """Asked from outside: Playwright's own waiting evaluates strings in the page, which its policy forbids."""
    deadline_s = time.monotonic() + 60
    while not page.evaluate(condition):
        assert time.monotonic() < deadline_s, condition
        time.sleep(0.1)


def test_a_file_is_dubbed_played_edited_and_downloaded(page: Page, talk: Path, tmp_path: Path) -> None:
    page.set_input_files("input[name=file]", talk)
    page.check("input[name=to][value=pt]")
    page.select_option("select[name=source]", "en")
    page.get_by_role("button", name="Dub", exact=True).click()

    expect(page.locator("#name")).to_have_text("talk.mp4")
    expect(page.locator("#timeline .source").first).to_be_attached(timeout=LONG_MS)
    expect(page.locator("#state")).to_have_text("done", timeout=LONG_MS)
    lines = page.locator("#lines li")
    assert lines.count() == page.locator("#timeline .dub").count() > 0

    until(page, "document.getElementById('player').readyState >= 2")
    page.evaluate("document.getElementById('player').play()")
    until(page, "document.getElementById('player').currentTime > 1")
    page.evaluate("document.getElementById('player').pause()")

    lines.first.locator(".text").click()
    lines.first.locator("textarea").fill("Bom dia a todos.")
    lines.first.get_by_role("button", name="Save").click()
    page.locator("#regenerate").click()
    expect(page.locator("#regenerate")).to_be_hidden(timeout=LONG_MS)
    expect(page.locator("#state")).to_have_text("done", timeout=LONG_MS)
    expect(lines.first.locator(".text")).to_have_text("Bom dia a todos.")

    with page.expect_download() as saved:
        page.get_by_role("link", name="SRT").click()
    saved.value.save_as(tmp_path / "pt.srt")
    assert "Bom dia a todos." in (tmp_path / "pt.srt").read_text()


def test_what_a_person_writes_is_shown_as_text(page: Page, talk: Path, tmp_path: Path, service: Running) -> None:
    evil = tmp_path / '<img src=x onerror="document.title=1">.mp4'
    shutil.copyfile(talk, evil)
    with service.client() as client, evil.open("rb") as file:
        client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": (evil.name, file)}).raise_for_status()
    expect(page.locator("#dubs .what").first).to_contain_text("<img src=x", timeout=LONG_MS)
    assert page.title() == "raydub"
    assert page.locator("#dubs img").count() == 0


def test_it_is_used_by_keyboard_and_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#dubs button").last.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#dubs button").last).to_have_attribute("aria-current", "true")


def test_its_answers_let_no_script_of_elsewhere_run(service: Running) -> None:
    with service.client() as client:
        policy = client.get("/").headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert client.get("/page/app.js").headers["content-type"].startswith("text/javascript")
        assert client.get("/page/..%2fpage.py").status_code == 404
