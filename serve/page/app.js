// The page: lists dubs, creates new ones and shows one of them.

import { ApiError, askForKey, call, upload } from "./api.js";
import { Dub } from "./dub.js";

const REFRESH_MS = 2000;
const $ = (id) => document.getElementById(id);
const form = $("new");

let shownDub = null;
let options = null;

// --- the service as a whole

async function refresh() {
  try {
    const health = await call("GET", "readyz").catch((error) => ({ status: error.status === 503 ? "loading" : "unreachable" }));
    $("health").textContent = health.status === "ready" ? "ready" : `${health.status} …`;
    if (options === null) await showOptions();
    showPools(await call("GET", "v1/pools"));
    showDubs((await call("GET", "v1/dubs?limit=50")).dubs);
  } catch (error) {
    if (error.status === 401) await askForKey();
    else $("health").textContent = error instanceof ApiError ? error.message : "the service cannot be reached";
  }
  setTimeout(refresh, REFRESH_MS);
}

function showPools(pools) {
  $("pools").replaceChildren(
    ...pools.map((pool) => {
      const item = document.createElement("li");
      item.textContent = `${pool.name}: ${pool.queue_items} waiting, ${pool.num_serving} serving`;
      if (pool.waiting) item.textContent += ` (${pool.waiting})`;
      return item;
    }),
  );
}

function showDubs(dubs) {
  $("no-dubs").hidden = dubs.length > 0;
  const focused = document.activeElement?.dataset?.dub;
  $("dubs").replaceChildren(
    ...dubs.map((dub) => {
      const button = document.createElement("button");
      button.dataset.dub = dub.id;
      button.setAttribute("aria-current", String(shownDub?.id === dub.id));
      const title = document.createElement("span");
      title.className = "what";
      title.textContent = `${dub.name} → ${dub.targets.map((target) => target.language).join(", ")}`;
      const state = document.createElement("span");
      state.className = `badge ${dub.state}`;
      state.textContent = dub.state === "running" ? `${Math.round(100 * shareDone(dub))} %` : dub.state;
      button.append(title, state);
      button.addEventListener("click", () => show(dub.id));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
  if (focused) document.querySelector(`[data-dub="${focused}"]`)?.focus();
  const updated = dubs.find((dub) => dub.id === shownDub?.id);
  if (updated) shownDub.update(updated);
}

function shareDone(dub) {
  const shares = Object.values(dub.progress.stages?.mix ?? {});
  return shares.length ? Math.min(...shares) : 0;
}

function show(id) {
  shownDub?.close();
  shownDub = new Dub(id, options, closed);
  history.replaceState(null, "", `#${id}`);
  $("nothing").hidden = true;
  $("dub").hidden = false;
  for (const button of document.querySelectorAll("#dubs button")) {
    button.setAttribute("aria-current", String(button.dataset.dub === id));
  }
}

function closed() {
  shownDub = null;
  history.replaceState(null, "", location.pathname);
  $("nothing").hidden = false;
  $("dub").hidden = true;
}

// --- a new dub

async function showOptions() {
  options = await call("GET", "v1/options");
  const chips = $("targets").querySelector(".chips");
  for (const language of options.targets) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", name: "to", value: language.code });
    label.append(box, language.name);
    chips.append(label);
  }
  const only = chips.querySelectorAll("input");
  if (only.length === 1) only[0].checked = true;
  for (const language of options.sources) form.source.append(new Option(language.name, language.code));
  for (const profile of options.profiles) form.profile.append(new Option(profile, profile));
  showVoices();
  const wanted = location.hash.slice(1);
  if (/^dub_[0-9a-z]{26}$/.test(wanted)) show(wanted);
}

function chosen() {
  return [...form.querySelectorAll("[name=to]:checked")].map((box) => box.value);
}

function showVoices() {
  const before = Object.fromEntries([...$("voices").querySelectorAll("select")].map((each) => [each.name, each.value]));
  const labels = chosen()
    .filter((code) => (options.voices[code] ?? []).length > 1)
    .map((code) => {
      const select = document.createElement("select");
      select.name = code;
      select.append(new Option("default", ""), ...options.voices[code].map((voice) => new Option(voice, voice)));
      select.value = before[code] ?? "";
      const label = document.createElement("label");
      label.append(options.targets.find((language) => language.code === code).name, " ", select);
      return label;
    });
  $("voices").hidden = labels.length === 0;
  $("voices").replaceChildren($("voices").querySelector("legend"), ...labels);
}

function showFile() {
  const file = form.file.files[0];
  $("drop-label").textContent = file ? file.name : "Drop a video or audio file here, or choose one";
}

async function create(event) {
  event.preventDefault();
  showError("");
  const [file, url, targets] = [form.file.files[0], form.source_url.value.trim(), chosen()];
  if (!file && !url) return showError("Choose a file, or enter a URL.");
  if (targets.length === 0) return showError("Choose a language to dub into.");
  if (file && file.size > options.max_upload_bytes) return showError("The file is larger than this service accepts.");
  const body = new FormData();
  if (file) body.set("file", file);
  else body.set("source_url", url);
  body.set("to", targets.join(","));
  for (const name of ["source", "profile"]) if (form[name].value) body.set(name, form[name].value);
  const voices = [...$("voices").querySelectorAll("select")].filter((select) => select.value);
  if (voices.length) body.set("voices", JSON.stringify(Object.fromEntries(voices.map((each) => [each.name, each.value]))));
  await send(body);
}

async function send(body) {
  const [button, bar] = [form.querySelector("button"), $("upload")];
  button.disabled = true;
  bar.hidden = false;
  try {
    const dub = await upload("v1/dubs", body, (share) => (bar.value = share));
    form.reset();
    showFile();
    showVoices();
    show(dub.id);
    $("detail").focus();
  } catch (error) {
    showError(error.message);
  } finally {
    button.disabled = false;
    bar.hidden = true;
    bar.value = 0;
  }
}

function showError(message) {
  $("new-error").textContent = message;
  $("new-error").hidden = message === "";
}

form.addEventListener("submit", create);
form.file.addEventListener("change", showFile);
$("targets").addEventListener("change", showVoices);
for (const [event, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  $("drop").addEventListener(event, (dragged) => {
    dragged.preventDefault();
    $("drop").classList.toggle("over", over);
    if (event === "drop" && dragged.dataTransfer.files.length) {
      form.file.files = dragged.dataTransfer.files;
      showFile();
    }
  });
}

refresh();
