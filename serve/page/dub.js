// Shows one dub: its progress, its lines as they arrive, the player, the editor and the downloads.

import { call, follow } from "./api.js";
import { Player } from "./player.js";
import { Timeline, clock } from "./timeline.js";

const STAGES = ["transcribe", "translate", "speak", "mix"];
const ENDED = ["done", "failed", "cancelled"];
const $ = (id) => document.getElementById(id);

export class Dub {
  constructor(id, options, onGone) {
    this.id = id;
    this.path = `v1/dubs/${id}`;
    this.options = options;
    this.onGone = onGone;
    this.language = null;
    this.state = null;
    this.revision = null;
    this.segments = new Map();
    this.lines = new Map(); // "pt:u0012-1" → data of its translation and utterance events
    this.progress = {};
    this.verdicts = new Map(); // id → line of the finished dub, with the flags of its checks
    this.wanted = ""; // "", "look", or a flag
    this.stopped = new AbortController();
    this.player = new Player($("player"));
    this.timeline = new Timeline($("timeline"), (time_s) => ($("player").currentTime = time_s));
    this.#listen();
    this.#load();
  }

  close() {
    this.stopped.abort();
    this.player.stop();
  }

  async #load() {
    try {
      this.update(await call("GET", this.path));
      await this.#follow();
    } catch (error) {
      this.#showError(error.message);
    }
  }

  async #follow() {
    await follow(`${this.path}/events`, (kind, data) => this.#observe(kind, data), this.stopped.signal);
    if (!this.stopped.signal.aborted) this.update(await call("GET", this.path));
  }

  #observe(kind, data) {
    if (kind === "segment") this.segments.set(data.id, data);
    if (kind === "translation" && !this.lines.has(data.id)) this.lines.set(data.id, { ...data, waiting: true });
    if (kind === "utterance") this.lines.set(data.id, { ...data, waiting: false });
    if (kind === "progress") this.progress = data;
    this.#drawSoon();
  }

  // --- the state of the dub

  update(dub) {
    const isFirst = this.state === null;
    const hasEnded = ENDED.includes(dub.state) && (!ENDED.includes(this.state) || this.revision !== dub.revision);
    const restarts = !isFirst && ENDED.includes(this.state) && !ENDED.includes(dub.state);
    Object.assign(this, { state: dub.state, dub, revision: dub.revision });
    if (dub.progress.stages) this.progress = dub.progress;
    $("name").textContent = dub.name;
    $("state").textContent = dub.state;
    $("state").className = `badge ${dub.state}`;
    this.#showError(dub.error ?? "");
    $("cancel").hidden = ENDED.includes(dub.state);
    $("delete").hidden = !ENDED.includes(dub.state);
    if (this.language === null) this.#choose(dub.targets[0].language);
    else if (hasEnded) this.#play();
    this.#showTabs();
    this.#showDownloads();
    this.#showEdits();
    this.#drawSoon();
    if (hasEnded && dub.state === "done") this.#loadVerdicts().catch((error) => this.#showError(error.message));
    if (restarts) this.#follow().catch((error) => this.#showError(error.message));
  }

  // Checks end after their lines were spoken: their flags come with the finished dub.
  async #loadVerdicts() {
    const { lines } = await call("GET", `${this.path}/lines`);
    this.verdicts = new Map(lines.map((line) => [line.id, line]));
    this.#drawSoon();
  }

  #choose(language) {
    this.language = language;
    this.#play();
    this.#showTabs();
    this.#showDownloads();
    this.#drawSoon();
  }

  #play() {
    if (!ENDED.includes(this.state)) this.player.play(`${this.path}/hls/${this.language}`);
    // A stream that is playing goes on: it has the whole dub.
    else if (this.state === "done" && !this.player.isPlaying) {
      this.player.file(`${this.path}/video/${this.language}`, `${this.path}/audio/${this.language}`);
    }
  }

  #showTabs() {
    const tabs = this.dub.targets.map(({ language, state }) => {
      const tab = document.createElement("button");
      tab.role = "tab";
      tab.textContent = state === "stale" ? `${language} (edited)` : language;
      tab.setAttribute("aria-selected", String(language === this.language));
      tab.addEventListener("click", () => this.#choose(language));
      return tab;
    });
    $("tabs").replaceChildren(...tabs);
    $("tabs").hidden = tabs.length < 2 && !tabs[0]?.textContent.includes("edited");
  }

  #showDownloads() {
    const files = {
      "all tracks": "media",
      video: `video/${this.language}`,
      audio: `audio/${this.language}`,
      SRT: `transcripts/${this.language}/srt`,
      VTT: `transcripts/${this.language}/vtt`,
      manifest: "manifest",
    };
    const links = Object.entries(files).map(([label, file]) => {
      const link = document.createElement("a");
      Object.assign(link, { textContent: label, href: `${this.path}/${file}`, download: "" });
      return link;
    });
    $("downloads").replaceChildren(...(this.state === "done" ? links : []));
  }

  // --- drawing

  #drawSoon() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      if (!this.stopped.signal.aborted) this.#draw();
    });
  }

  #draw() {
    this.#drawStages();
    const lines = [...this.lines.values()]
      .filter((line) => line.language === this.language)
      .map((line) => ({ ...line, flags: this.verdicts.get(line.id)?.flags ?? line.flags }));
    const segments = [...this.segments.values()];
    const spans = segments.map((segment) => ({ ...segment, lane: "source", kind: "" }));
    for (const line of lines) {
      const segment = this.segments.get(line.segment_id);
      const isFlagged = this.verdicts.get(line.id)?.to_look_at ?? line.flags?.length > 0;
      const kind = line.waiting ? "waiting" : isFlagged ? "flagged" : "";
      spans.push({ ...segment, ...line, lane: "dub", kind });
    }
    this.timeline.draw(this.dub?.duration_s ?? this.progress.duration_s, spans);
    $("count").textContent = `${lines.filter((line) => !line.waiting).length} of ${segments.length} spoken`;
    const byStart = (a, b) => this.segments.get(a.segment_id)?.start_s - this.segments.get(b.segment_id)?.start_s;
    this.#drawFilter(lines);
    this.#drawLines(lines.filter((line) => this.#isWanted(line)).sort(byStart));
  }

  #isWanted(line) {
    if (this.wanted === "look") return this.verdicts.get(line.id)?.to_look_at ?? false;
    return this.wanted === "" || Boolean(line.flags?.includes(this.wanted));
  }

  #drawFilter(lines) {
    const counts = new Map();
    for (const flag of lines.flatMap((line) => line.flags ?? [])) counts.set(flag, (counts.get(flag) ?? 0) + 1);
    const numToLookAt = lines.filter((line) => this.verdicts.get(line.id)?.to_look_at).length;
    const choices = [["", `all ${lines.length} lines`]];
    if (numToLookAt) choices.push(["look", `${numToLookAt} to look at`]);
    choices.push(...[...counts].map(([flag, num]) => [flag, `${num} ${flag.replaceAll("_", " ")}`]));
    if (!choices.some(([value]) => value === this.wanted)) this.wanted = "";
    const version = JSON.stringify(choices);
    if ($("flag").dataset.version !== version) {
      $("flag").dataset.version = version;
      $("flag").replaceChildren(...choices.map(([value, label]) => new Option(label, value)));
    }
    $("flag").value = this.wanted;
    $("flag").hidden = choices.length < 2;
  }

  #drawStages() {
    const rows = STAGES.flatMap((stage) => {
      const shares = this.progress.stages?.[stage] ?? {};
      const share = this.state === "done" ? 1 : (shares[this.language] ?? shares.all ?? 0);
      const bar = document.createElement("progress");
      bar.value = share;
      bar.setAttribute("aria-label", stage);
      return [["dt", stage], ["dd", bar], ["dd", `${Math.round(100 * share)} %`]].map(([name, content]) => {
        const made = document.createElement(name);
        made.append(content);
        return made;
      });
    });
    $("stages").replaceChildren(...rows);
  }

  #drawLines(lines) {
    const rows = new Map([...$("lines").children].map((row) => [row.dataset.line, row]));
    const wanted = lines.map((line) => {
      const row = rows.get(line.id);
      const version = JSON.stringify([line, this.state]);
      // A row that is being edited is not replaced.
      if (row && (row.dataset.version === version || row.querySelector("form"))) return row;
      const made = this.#row(line);
      made.dataset.version = version;
      return made;
    });
    const list = $("lines");
    if (wanted.length !== list.children.length || wanted.some((row, at) => row !== list.children[at])) {
      list.replaceChildren(...wanted);
    }
  }

  #row(line) {
    const segment = this.segments.get(line.segment_id);
    const row = document.createElement("li");
    row.dataset.line = line.id;
    const time = button("time", clock(segment?.start_s ?? 0), "Play from here", () => {
      $("player").currentTime = segment.start_s;
      $("player").play().catch(() => {});
    });
    const source = document.createElement("span");
    source.textContent = segment?.text ?? "";
    source.lang = segment?.language ?? "";
    const said = document.createElement("span");
    said.className = "said";
    const text = button("text", line.text || "(original kept)", "Edit", () => this.#edit(said, line));
    text.lang = line.language;
    text.disabled = this.state !== "done";
    said.append(text);
    const hear = line.clip ? button("", "▶", `Hear ${line.text}`, () => new Audio(line.clip).play()) : "";
    row.append(time, source, said, hear);
    if (line.flags?.length) {
      const flags = document.createElement("span");
      flags.className = "flags";
      flags.textContent = line.flags.join(", ").replaceAll("_", " ");
      row.append(flags);
    }
    return row;
  }

  // --- editing

  #edit(place, line) {
    const form = document.createElement("form");
    const text = document.createElement("textarea");
    Object.assign(text, { value: line.text, rows: 3, lang: line.language, ariaLabel: "New text" });
    const save = document.createElement("button");
    Object.assign(save, { textContent: "Save", className: "primary" });
    const discard = button("", "Discard", "", () => this.#endEdit(place, line));
    discard.type = "button";
    const buttons = document.createElement("div");
    buttons.append(save, discard);
    form.append(text, buttons);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save(place, line, text.value.trim());
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#endEdit(place, line);
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    place.replaceChildren(form);
    text.focus();
  }

  #endEdit(place, line) {
    const row = this.#row(line);
    place.closest("li").replaceWith(row);
    row.querySelector(".text").focus();
  }

  async #save(place, line, text) {
    try {
      await call("PATCH", `${this.path}/lines/${encodeURIComponent(line.id)}`, { text });
      this.lines.set(line.id, { ...line, text });
      this.#endEdit(place, { ...line, text });
      this.update(await call("GET", this.path));
    } catch (error) {
      this.#showError(error.message);
    }
  }

  #showEdits() {
    const stale = this.dub.targets.filter((target) => target.state === "stale").map((target) => target.language);
    $("regenerate").hidden = stale.length === 0 || this.state !== "done";
    $("regenerate").textContent = `Dub the edited lines (${stale.join(", ")})`;
  }

  // --- the page's buttons for the shown dub

  #listen() {
    const signal = this.stopped.signal;
    const act = (id, action) =>
      $(id).addEventListener("click", () => action().catch((error) => this.#showError(error.message)), { signal });
    act("cancel", async () => this.update(await call("POST", `${this.path}/cancel`)));
    act("regenerate", async () => this.update(await call("POST", `${this.path}/regenerate`)));
    act("delete", async () => {
      if (!confirm(`Delete ${this.dub.name} and all its files?`)) return;
      await call("DELETE", this.path);
      this.close();
      this.onGone();
    });
    $("flag").addEventListener(
      "change",
      () => {
        this.wanted = $("flag").value;
        this.#drawSoon();
      },
      { signal },
    );
    $("player").addEventListener("timeupdate", () => this.#mark($("player").currentTime), { signal });
    addEventListener("resize", () => this.#drawSoon(), { signal });
    $("lines").replaceChildren();
  }

  #mark(time_s) {
    this.timeline.moveHead(time_s);
    for (const row of $("lines").children) {
      const segment = this.segments.get(this.lines.get(row.dataset.line)?.segment_id);
      row.classList.toggle("now", Boolean(segment) && segment.start_s <= time_s && time_s < segment.end_s);
    }
  }

  #showError(message) {
    $("dub-error").textContent = message;
    $("dub-error").hidden = message === "";
  }
}

function button(kind, text, label, onClick) {
  const made = document.createElement("button");
  made.textContent = text;
  if (kind) made.className = kind;
  if (label) made.title = label;
  made.addEventListener("click", onClick);
  return made;
}
