"""The dashboard: what a key sees, the page in a real browser, and the metrics behind it; models are stood in for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from prometheus_client.parser import text_string_to_metric_families

from cluster.metrics.meters import families
from serve.jobs.api_keys import hash_key
from tests.api.server import PATIENCE_S, STANDINS, Running, finished, running
from tests.api.test_dubs import create, events_of
from tests.api.test_page import ARGUMENTS, CHROMIUM, until

KEY, OTHER, SLOW = "one key", "another key", "a key for few requests"
SECRET = "secret-plans"
KEYS = ", ".join(
    f"{{name: k{number}, sha256: {hash_key(key)}, limits: {{requests_per_min: {rate}}}}}"
    for number, (key, rate) in enumerate({KEY: 100_000, OTHER: 100_000, SLOW: 1}.items())
)
FIELDS = ("segments_per_s", "realtime", "lag_s", "cost_per_hour", "num_running", "num_waiting")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, talk: Path) -> Iterator[Running]:
    """One dub of the first key is finished, and its events were followed."""
    settings = (
        f"serve.auth.keys=[{KEYS}]",
        "serve.dashboard={sample_s: 0.2, max_samples: 10000}",
        "price.cpu_hour=1",
        "quality.check=none",
    )
    with running(tmp_path_factory.mktemp("data"), *STANDINS, *settings, config="base") as service:
        with service.client(KEY) as client:
            dub_id = create(client, talk, name=SECRET)["id"]
            events_of(client, dub_id)
            assert finished(client, dub_id)["state"] == "done"
        yield service


@pytest.fixture(scope="module")
def page(service: Running) -> Iterator[Page]:
    """The dashboard, opened by a person who was asked for the key."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE_S * 1000)
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{service.url}/dashboard")
        page.locator("#key input").fill(KEY)
        page.get_by_role("button", name="Continue").click()
        yield page
        browser.close()
        assert complaints == []
        assert [url for url in asked if not url.startswith((service.url, "data:"))] == []


def test_a_key_sees_the_totals_of_all_and_the_dubs_of_its_own(service: Running) -> None:
    with service.client() as stranger:
        assert stranger.get("/v1/dashboard").status_code == 401
        assert stranger.get("/v1/dashboard/quality").status_code == 401
        assert stranger.get("/dashboard").status_code == 200
    with service.client(OTHER) as other:
        figures, quality = other.get("/v1/dashboard"), other.get("/v1/dashboard/quality")
    assert SECRET not in figures.text + quality.text
    assert {pool["num_items"] > 0 for pool in figures.json()["pools"]} == {True}
    assert quality.json()["dubs"] == []
    with service.client(KEY) as client:
        answer = client.get("/v1/dashboard/quality").json()
    assert [dub["name"] for dub in answer["dubs"]] == [SECRET]
    assert answer["dubs"][0]["realtime"] > 0
    assert answer["correlation"] is None
    assert "found 1" in answer["why"]


def test_the_figures_are_those_of_the_dub(service: Running) -> None:
    with service.client(KEY) as client:
        answer = client.get("/v1/dashboard").json()
        num_lines = client.get("/v1/dubs").json()["dubs"][0]["verdict"]["num_lines"]
    series = answer["series"]
    assert {len(series[name]) for name in FIELDS} == {len(series["time_s"])}
    assert sum(series["segments_per_s"]) > 0
    assert sum(series["realtime"]) > 0
    assert sum(series["cost_per_hour"]) > 0
    assert max(series["num_running"]) == 1
    for pool in series["pools"].values():
        assert {len(values) for values in pool.values()} == {len(series["time_s"])}
        assert pool["num_serving"][-1] == pool["target"][-1] == 1
    rows = {row["name"]: row for row in answer["kpis"]}
    has_failed = num_failed() > 0  # in this process, where other tests may have dubbed too
    assert rows["failed videos"]["verdict"] == ("missed" if has_failed else "met")
    assert num_lines > 0


def num_failed() -> float:
    samples = (sample for family in families("ray_raydub_jobs_total") for sample in family.samples)
    return sum(each.value for each in samples if each.labels.get("outcome") == "failed")


def test_only_what_is_new_is_sent_again(service: Running) -> None:
    with service.client(KEY) as client:
        first = client.get("/v1/dashboard").json()
        last_s = first["series"]["time_s"][-1]
        query = {"of": first["dispatcher"], "after": last_s}
        deadline_s = time.monotonic() + PATIENCE_S
        while not (newer := client.get("/v1/dashboard", params=query).json()["series"]["time_s"]):
            assert time.monotonic() < deadline_s
        assert min(newer) > last_s
        whole = client.get("/v1/dashboard", params={**query, "of": "a dispatcher that is gone"}).json()
    assert whole["series"]["time_s"][0] == first["series"]["time_s"][0]


def test_requests_are_counted_by_route_and_status(service: Running) -> None:
    with service.client(SLOW) as slow:
        assert [slow.get("/v1/pools").status_code for _ in range(2)] == [200, 429]
    with service.client(KEY) as client:
        client.get("/v1/dubs/dub_00000000000000000000000000")
        client.head("/v1/pools")
        client.request("PROPFIND", "/coffee")
        told = {
            (sample.name, *(sample.labels.get(tag) for tag in ("route", "method", "status", "state"))): sample.value
            for family in text_string_to_metric_families(client.get("/metrics").text)
            for sample in family.samples
            if not sample.name.endswith("_bucket")
        }
    requests = "ray_raydub_http_requests_total"
    assert told[requests, "/v1/dubs", "POST", "2xx", None] >= 1
    assert told[requests, "/v1/dubs/{dub_id}", "GET", "4xx", None] >= 1
    assert told[requests, "/v1/pools", "GET", "2xx", None] >= 2
    assert told[requests, "none", "GET", "429", None] >= 1
    assert told[requests, "none", "other", "4xx", None] >= 1
    assert told["ray_raydub_http_answer_seconds_count", "/v1/dubs/{dub_id}/events", "GET", None, None] >= 1
    assert told["ray_raydub_event_lag_seconds_count", None, None, None, None] > 0
    assert told["ray_raydub_dubs", None, None, None, "running"] == 0
    routes = {key[1] for key in told if key[1] is not None}
    assert [route for route in routes if re.search(r"dub_0|coffee", route)] == []


@needs_chromium
def test_the_page_shows_the_figures_and_goes_on(page: Page) -> None:
    expect(page.locator("#tiles .value").nth(2)).to_have_text("0")
    expect(page.locator("#kpis tbody tr")).to_have_count(5)
    expect(page.locator("#pool-table tbody tr").first).to_contain_text("1 of 1")
    for name in ("segments", "realtime", "queues", "replicas", "busy", "lag", "dubs-plot", "cost"):
        expect(page.locator(f"#{name} path.line").first).to_have_attribute("d", re.compile("^M.+L"))
    plot = page.locator("#lag svg")
    before = int(plot.get_attribute("aria-valuemax") or 0)
    until(page, f"Number(document.querySelector('#lag svg').getAttribute('aria-valuemax')) > {before}")
    expect(page.locator("#scatter circle")).to_have_count(1)
    expect(page.locator("#correlation")).to_contain_text("at least 8 dubs")


@needs_chromium
def test_the_page_is_read_by_keyboard(page: Page) -> None:
    plot = page.locator("#segments svg")
    plot.focus()
    page.keyboard.press("Home")
    expect(plot).to_have_attribute("aria-valuenow", "0")
    page.keyboard.press("ArrowRight")
    expect(plot).to_have_attribute("aria-valuenow", "1")
    expect(plot).to_have_attribute("aria-valuetext", re.compile(r"\d: all dubs [\d.]+ segments/s"))
    page.locator("#segments summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#segments tbody tr").first).to_be_visible()


@needs_chromium
def test_the_page_fits_a_phone_and_the_dark(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        style = "getComputedStyle(document.querySelector('#tiles div'))"
        colours.append(page.evaluate(f"[{style}.color, {style}.backgroundColor]"))
    assert colours[0] != colours[1]


def test_the_page_keeps_the_policy_of_the_other(service: Running) -> None:
    with service.client() as client:
        policy = client.get("/dashboard").headers["content-security-policy"]
        assert policy == client.get("/").headers["content-security-policy"]
        assert "unsafe" not in policy
