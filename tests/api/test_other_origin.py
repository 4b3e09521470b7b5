"""Pages of other origins in a real browser: the configured one may use the service, another may not."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.api.server import NO_MODELS, PATIENCE_S, Running, finished, running

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
READ = """async ([url, headers]) => {
  try {
    const answer = await fetch(url, {headers});
    const names = ["content-range", "content-disposition"];
    return {status: answer.status, headers: names.map((name) => answer.headers.get(name)), body: await answer.text()};
  } catch (error) { return {refused: error.name}; }
}"""
PLAY = """(url) => new Promise((resolve) => {
  const element = document.createElement("audio");
  element.onloadedmetadata = () => resolve(element.duration);
  element.onerror = () => resolve(null);
  element.src = url;
})"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def origins() -> Iterator[tuple[str, str]]:
    """Two origins that serve an empty page."""

    class EmptyPage(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    one, other = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    yield one, other
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, origins: tuple[str, str]) -> Iterator[Running]:
    allowed = f"serve.cors_origins=['{origins[0]}']"
    with running(tmp_path_factory.mktemp("data"), *NO_MODELS, allowed, config="base") as service:
        yield service


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def media(service: Running, talk: Path) -> str:
    """URL of a finished dub's video."""
    with service.client() as client:
        made = client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": talk.read_bytes()}).json()
        assert finished(client, made["id"])["state"] == "done"
    return f"{service.url}/v1/dubs/{made['id']}/media"


def test_a_page_of_the_configured_origin_reads_and_plays(page: Page, origins: tuple[str, str], media: str) -> None:
    page.goto(origins[0])
    part = page.evaluate(READ, [media, {"range": "bytes=0-9", "xi-api-key": "unused"}])
    assert part["status"] == 206
    assert part["headers"][0].startswith("bytes 0-9/")
    assert page.evaluate(PLAY, media) == pytest.approx(12.0, abs=1.0)
    missing = page.evaluate(READ, [media.replace("/media", "/audio/klingon"), {}])
    assert (missing["status"], "klingon" in missing["body"]) == (404, True)


def test_a_page_of_another_origin_does_neither(page: Page, origins: tuple[str, str], media: str) -> None:
    page.goto(origins[1])
    assert page.evaluate(READ, [media, {}]) == {"refused": "TypeError"}
    assert page.evaluate(PLAY, media) is None
