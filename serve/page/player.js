// Plays a growing HLS stream in a <video>: natively if the browser can, else with Media Source Extensions.

const RETRY_MS = 1000;

export class Player {
  constructor(video) {
    this.video = video;
    this.stopped = null;
  }

  // `folder` has the playlists.
  play(folder) {
    this.stop();
    const signal = this.#newSignal();
    if (this.video.canPlayType("application/vnd.apple.mpegurl") !== "") this.#native(`${folder}/master.m3u8`, signal);
    else if ("MediaSource" in window) this.#viaMediaSource(folder, signal).catch(() => {});
  }

  // Plays a finished file. Without video there is only the other URL, of the audio.
  file(url, audioUrl) {
    this.stop();
    this.video.addEventListener("error", () => (this.video.src = audioUrl), { once: true, signal: this.#newSignal() });
    this.video.src = url;
  }

  get isPlaying() {
    return !this.video.paused && !this.video.ended;
  }

  #newSignal() {
    this.stopped = new AbortController();
    return this.stopped.signal;
  }

  stop() {
    this.stopped?.abort();
    this.video.removeAttribute("src");
    this.video.load();
  }

  async #native(url, signal) {
    // The playlist exists once the first segment is finished.
    while (!signal.aborted && !(await exists(url))) await wait(RETRY_MS);
    if (!signal.aborted) this.video.src = url;
  }

  async #viaMediaSource(folder, signal) {
    const codecs = await this.#codecs(folder, signal);
    if (codecs === null) return;
    const media = new MediaSource();
    this.video.src = URL.createObjectURL(media);
    await once(media, "sourceopen");
    const buffer = media.addSourceBuffer(`video/mp4; codecs="${codecs}"`);
    const append = async (name) => {
      const data = await (await fetch(`${folder}/${name}`, { signal })).arrayBuffer();
      buffer.appendBuffer(data);
      await once(buffer, "updateend");
    };
    await append("init.mp4");
    for (let next = 0; !signal.aborted; ) {
      const playlist = await (await fetch(`${folder}/index.m3u8`, { signal })).text();
      const names = playlist.split("\n").filter((line) => line.endsWith(".m4s"));
      while (next < names.length) await append(names[next++]);
      if (playlist.includes("#EXT-X-ENDLIST")) return media.endOfStream();
      await wait(RETRY_MS);
    }
  }

  async #codecs(folder, signal) {
    while (!signal.aborted) {
      const answer = await fetch(`${folder}/master.m3u8`, { signal });
      if (answer.ok) return /CODECS="([^"]+)"/.exec(await answer.text())?.[1] ?? null;
      await wait(RETRY_MS);
    }
    return null;
  }
}

async function exists(url) {
  return fetch(url).then(
    (answer) => answer.ok,
    () => false,
  );
}

function once(target, event) {
  return new Promise((resolve) => target.addEventListener(event, resolve, { once: true }));
}

function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
