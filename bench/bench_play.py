"""Plays a dub while it is made: its HLS stream in ffmpeg and in Chromium, from the first second to the end.

    python bench/bench_play.py [--minutes 3] [--mode local] [--json]

A real `raydub serve` in a process of its own, with the offline models and an empty store. ffmpeg decodes the stream
as it grows; beside it Chromium plays the service's page, at the speed of life. Bounds: both begin while the dub is
running and reach its end; ffmpeg has nothing to complain of, and what Chromium has played is one range, all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from bench_serve import create, ended, first_hls, service, talk_of
from playwright.async_api import async_playwright

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--autoplay-policy=no-user-gesture-required")
TOLERANCE_S = 0.2
HARMLESS = re.compile("Found duplicated MOOV Atom|Last message repeated")
"""ffmpeg reads a stream's header again whenever a playlist has grown (update_init_section in libavformat/hls.c)."""
PLAYER = "document.getElementById('player')"
WATCH = f"""(() => {{
  const told = {{ waits: 0, began: null, state: null }};
  window.told = told;
  {PLAYER}.muted = true;
  {PLAYER}.addEventListener("playing", () => {{
    told.began ??= {PLAYER}.currentTime;
    told.state ??= document.getElementById("state").textContent;
  }});
  {PLAYER}.addEventListener("waiting", () => told.waits++);
  {PLAYER}.autoplay = true;
}})()"""
FOUND = f"""(() => ({{
  ...window.told, ended: {PLAYER}.ended, duration_s: {PLAYER}.duration, source: {PLAYER}.currentSrc.split(":")[0],
  dropped: {PLAYER}.getVideoPlaybackQuality().droppedVideoFrames,
  ranges: [...Array({PLAYER}.played.length).keys()].map((at) =>
    [{PLAYER}.played.start(at), {PLAYER}.played.end(at)]),
}}))()"""


async def by_ffmpeg(url: str, dub_id: str) -> dict[str, Any]:
    source = f"{url}/v1/dubs/{dub_id}/hls/pt/master.m3u8"
    command = ["ffmpeg", "-v", "warning", "-progress", "pipe:1", "-live_start_index", "0", "-i", source]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, "-f", "null", "-", stdout=pipe, stderr=pipe)
    progress, complaints = await process.communicate()
    times_us = re.findall(rb"out_time_us=(\d+)", progress)
    lines = [line for line in complaints.decode().splitlines() if not HARMLESS.search(line)]
    return {"played_s": int(times_us[-1]) / 1e6, "complaints": "\n".join(lines)[-500:]}


async def by_chromium(url: str, dub_id: str) -> dict[str, Any]:
    async with async_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        page = await browser.new_page()
        await page.goto(url)
        await page.locator("#dubs button").first.click()
        await page.evaluate(WATCH)
        while not (found := await page.evaluate(FOUND))["ended"]:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        await browser.close()
        return dict(found)


async def played(url: str, talk: bytes) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        start_s = time.monotonic()
        dub_id = await create(client, "talk.mp4", talk)
        chromium = asyncio.create_task(by_chromium(url, dub_id))
        first_s = await first_hls(client, dub_id) - start_s
        ffmpeg = asyncio.create_task(by_ffmpeg(url, dub_id))
        state = await ended(client, dub_id)
        wall_s = time.monotonic() - start_s
        duration_s = (await client.get(f"/v1/dubs/{dub_id}")).json()["duration_s"]
    result = {"state": state, "first_hls_s": first_s, "wall_s": wall_s, "duration_s": duration_s}
    return result | {"ffmpeg": await ffmpeg, "chromium": await chromium}


def shows(result: dict[str, Any]) -> bool:
    duration_s, ffmpeg, chromium = result["duration_s"], result["ffmpeg"], result["chromium"]
    [*others, (start_s, end_s)] = chromium["ranges"]
    return (
        result["state"] == "done"
        and chromium["state"] == "running"
        and not others
        and start_s < TOLERANCE_S
        and all(abs(reached_s - duration_s) < TOLERANCE_S for reached_s in (end_s, ffmpeg["played_s"]))
        and not ffmpeg["complaints"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--mode", default="local", choices=["local", "inline"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory() as name:
        talk = talk_of(Path(name), options.minutes * 60)
        with service(Path(name), options.mode) as (url, _):
            result = asyncio.run(played(url, talk))
            result["shows"] = shows(result)
            print(json.dumps(result) if options.json else result, flush=True)


if __name__ == "__main__":
    main()
