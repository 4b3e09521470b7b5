"""The page, used as a person would, in a real browser; models are stood in for."""

from __future__ import annotations

import html
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.api.server import PATIENCE_S, STANDINS, Running, finished, running

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
)
expect.set_options(timeout=PATIENCE_S * 1000)
PLAYER = "document.getElementById('player')"
BUFFERED = f"(({{buffered: b}}) => [...Array(b.length).keys()].map((at) => [b.start(at), b.end(at)]))({PLAYER})"
"""[start, end] of each range without a gap."""
MARKUP = "<svg/onload=document.title=1>"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("data"), *STANDINS, "quality.max_wer=0", config="base") as service:
        yield service


@pytest.fixture(scope="module")
def page(service: Running) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        page.set_default_timeout(PATIENCE_S * 1000)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(service.url)
        yield page
        browser.close()
        assert complaints == []


def until(page: Page, condition: str) -> None:
    """Asked from outside: Playwright's own waiting evaluates strings in the page, which its policy forbids."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not page.evaluate(condition):
        assert time.monotonic() < deadline_s, condition
        time.sleep(0.1)


def other_page(page: Page) -> Page:
    browser = page.context.browser
    assert browser is not None
    return browser.new_page()


def test_a_file_is_dubbed(page: Page, talk: Path) -> None:
    page.set_input_files("input[name=file]", talk)
    page.check("input[name=to][value=pt]")
    page.select_option("select[name=source]", "en")
    page.get_by_role("button", name="Dub", exact=True).click()

    expect(page.locator("#name")).to_have_text("talk.mp4")
    expect(page.locator("#timeline .source").first).to_be_attached()
    expect(page.locator("#state")).to_have_text("done")
    assert page.locator("#lines li").count() == page.locator("#timeline .dub").count() > 0
    until(page, f"{PLAYER}.readyState >= 2")


def test_lines_are_shown_by_flag(page: Page) -> None:
    """The voice of the stand-ins hums: no line is heard as it is, and none may differ."""
    flag, lines = page.locator("#flag"), page.locator("#lines li")
    num_lines = lines.count()
    expect(flag).to_be_visible()
    expect(flag.locator("option").nth(0)).to_have_text(f"all {num_lines} lines")
    expect(flag.locator("option").nth(1)).to_have_text(f"{num_lines} to look at")
    flag.select_option("heard_wrong")
    expect(lines).to_have_count(num_lines)
    expect(lines.locator(".flags").first).to_contain_text("heard wrong")
    flag.select_option("")


def test_its_stream_is_played_to_the_end_without_a_gap(page: Page, service: Running) -> None:
    """By the page's own player, which a dub that is under way is played by."""
    with service.client() as client:
        dub = client.get("/v1/dubs").json()["dubs"][-1]
    page.evaluate(f"{PLAYER}.muted = true; {PLAYER}.autoplay = true; {PLAYER}.defaultPlaybackRate = 4")
    page.evaluate(
        f"import('./page/player.js').then((it) => new it.Player({PLAYER}).play('v1/dubs/{dub['id']}/hls/pt'))"
    )
    until(page, f"{PLAYER}.ended")
    assert not page.evaluate(f"{PLAYER}.currentSrc").endswith("/video/pt")
    duration_s = page.evaluate(f"{PLAYER}.duration")
    assert duration_s == pytest.approx(dub["duration_s"], abs=0.1)
    [[start_s, end_s]] = page.evaluate(BUFFERED)
    assert (start_s, end_s) == (pytest.approx(0, abs=0.1), pytest.approx(duration_s, abs=0.1))
    assert page.evaluate(f"{PLAYER}.error") is None


def test_a_line_is_edited_and_downloaded(page: Page, tmp_path: Path) -> None:
    lines = page.locator("#lines li")
    lines.first.locator(".text").click()
    lines.first.locator("textarea").fill("Bom dia a todos.")
    lines.first.get_by_role("button", name="Save").click()
    page.locator("#regenerate").click()
    expect(page.locator("#regenerate")).to_be_hidden()
    expect(page.locator("#state")).to_have_text("done")
    expect(lines.first.locator(".text")).to_have_text("Bom dia a todos.")

    with page.expect_download() as saved:
        page.get_by_role("link", name="SRT").click()
    saved.value.save_as(tmp_path / "pt.srt")
    assert "Bom dia a todos." in (tmp_path / "pt.srt").read_text()


def test_what_a_person_writes_is_shown_as_text(page: Page, talk: Path, tmp_path: Path, service: Running) -> None:
    evil = tmp_path / '<img src=x onerror="document.title=1">.mp4'
    shutil.copyfile(talk, evil)
    with service.client() as client, evil.open("rb") as file:
        made = client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": (evil.name, file)})
        client.post(f"/v1/dubs/{made.raise_for_status().json()['id']}/cancel").raise_for_status()
    expect(page.locator("#dubs .what").first).to_contain_text("<img src=x")
    assert page.title() == "raydub"
    assert page.locator("#dubs img").count() == 0


def test_subtitles_are_shown_as_text_wherever_they_are(page: Page, service: Running, tmp_path: Path) -> None:
    """What a line says may be edited to anything: on the page, in the report and in subtitles it stays a text."""
    page.goto(service.url)
    with service.client() as client:
        dub_id = client.get("/v1/dubs").json()["dubs"][-1]["id"]
        path = f"/v1/dubs/{dub_id}"
        line = client.get(f"{path}/transcripts/pt/json").json()["lines"][0]["id"]
        client.patch(
            f"{path}/lines/{line}", json={"text": f"{MARKUP}<script>document.title=2</script>"}
        ).raise_for_status()
        client.post(f"{path}/regenerate").raise_for_status()
        assert finished(client, dub_id)["state"] == "done"
        vtt = client.get(f"{path}/transcripts/pt/vtt")
    assert vtt.headers["content-type"].startswith("text/vtt")
    assert html.escape(MARKUP) in vtt.text
    assert not re.search(r"<\s*(script|svg|img)", vtt.text)
    page.locator("#dubs button").last.click()
    expect(page.locator("#lines .text").first).to_contain_text(MARKUP)
    assert page.locator("#lines script, #lines svg, #lines img, #timeline script, #timeline img").count() == 0
    assert page.title() == "raydub"

    report = other_page(page)
    report.goto(next(service.dispatcher.files.paths.folder(dub_id).glob("*/report.html")).as_uri())
    assert html.escape(MARKUP) in report.content()
    assert report.locator("svg[onload]").count() == 0
    assert report.title() not in ("1", "2")
    report.close()


def test_a_link_opens_a_dub_and_nothing_else(page: Page, service: Running) -> None:
    linked = other_page(page)
    asked: list[str] = []
    linked.on("request", lambda request: asked.append(request.url))
    with service.client() as client:
        dub = client.get("/v1/dubs").json()["dubs"][-1]
    for mark in ("dub_../../page/app.js", "dub_" + "0" * 25 + "/", f"{dub['id']}/media", f"{dub['id']}?x=1"):
        linked.goto(f"{service.url}/#{mark}")
        linked.reload()
        expect(linked.locator("#targets input").first).to_be_attached()
        expect(linked.locator("#nothing")).to_be_visible()
    assert [url for url in asked if "/v1/dubs/" in url] == []
    linked.goto(f"{service.url}/#{dub['id']}")
    linked.reload()
    expect(linked.locator("#name")).to_have_text(dub["name"])
    linked.close()


def test_the_keys_cookie_is_for_this_site_and_ends_soon(page: Page, service: Running) -> None:
    browser = page.context.browser
    assert browser is not None
    with browser.new_context() as context:  # with cookies of its own
        keyed = context.new_page()
        keyed.goto(service.url)
        expect(keyed.locator("#targets input").first).to_be_attached()
        assert context.cookies() == []
        keyed.evaluate("import('./page/api.js').then((it) => it.rememberKey('a key'))")
        [cookie] = context.cookies()
        assert (cookie["name"], cookie["sameSite"]) == ("raydub_key", "Strict")
        assert 0 < cookie["expires"] - time.time() <= 240
        assert "a key" not in keyed.evaluate("JSON.stringify(localStorage)")


def test_a_link_opens_the_dub_that_it_names_and_no_other_path(page: Page, service: Running) -> None:
    with service.client() as client:
        dub_id = client.get("/v1/dubs").json()["dubs"][0]["id"]
    for fragment, is_asked in ((f"{dub_id}/../../keys", False), ("dub_../../openapi.json", False), (dub_id, True)):
        linked, paths = other_page(page), []
        linked.on("request", lambda request, paths=paths: paths.append(request.url))
        linked.goto(f"{service.url}/#{fragment}")
        expect(linked.locator("#targets input").first).to_be_attached()
        expect(linked.locator("#dubs button").first).to_be_attached()
        if is_asked:
            expect(linked.locator("#state")).to_be_visible()
        assert any(dub_id in path for path in paths) == is_asked
        assert not any("keys" in path or "openapi" in path for path in paths)
        linked.close()


def test_it_is_used_by_keyboard_and_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#dubs button").last.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#dubs button").last).to_have_attribute("aria-current", "true")


def test_the_api_is_documented_without_asking_elsewhere(page: Page, service: Running) -> None:
    document = other_page(page)
    asked: list[str] = []
    complaints: list[str] = []
    document.on("request", lambda request: asked.append(request.url))
    document.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    document.goto(f"{service.url}/docs")
    expect(document.locator("#api .title").first).to_contain_text("raydub")
    expect(document.locator("#api .opblock-summary-path[data-path='/v1/dubs']").first).to_be_visible()
    document.close()
    assert [url for url in asked if not url.startswith((service.url, "data:"))] == []
    assert complaints == []


def test_its_answers_let_no_script_of_elsewhere_run(service: Running) -> None:
    with service.client() as client:
        policy = client.get("/").headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert client.get("/page/app.js").headers["content-type"].startswith("text/javascript")
        assert client.get("/page/..%2fpage.py").status_code == 404
