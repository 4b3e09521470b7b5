// Calls the service: with the API key, with errors as sentences, with event streams that resume.

const KEY = "raydub-key";
const COOKIE_S = 240;

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Ask the person for the key, and keep it.
export async function askForKey() {
  const dialog = document.getElementById("key") ?? keyDialog();
  if (dialog.open) return;
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  rememberKey(dialog.querySelector("input").value.trim());
}

function keyDialog() {
  const dialog = document.createElement("dialog");
  dialog.id = "key";
  dialog.innerHTML = `
    <form method="dialog">
      <h2>API key</h2>
      <p>This service requires an API key. The key is kept until you close this tab.</p>
      <label>Key <input name="key" type="password" autocomplete="off" required /></label>
      <button class="primary">Continue</button>
    </form>`;
  document.body.append(dialog);
  return dialog;
}

export function rememberKey(key) {
  sessionStorage.setItem(KEY, key);
  keepCookie();
}

// Media elements cannot send our header, so the service also takes the key from this cookie, for reading. It ends soon
// after the tab does.
function keepCookie() {
  const key = sessionStorage.getItem(KEY);
  if (!key) return;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie =
    `raydub_key=${encodeURIComponent(key)}; SameSite=Strict; Path=/; Max-Age=${COOKIE_S}${secure}`;
}

keepCookie();
setInterval(keepCookie, (COOKIE_S / 4) * 1000);

function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function failure(answer) {
  const body = await answer.json().catch(() => ({}));
  return new ApiError(answer.status, body.detail ?? `the service answered ${answer.status}`);
}

export async function call(method, path, body) {
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await fetch(path, { method, headers: { ...headers(), ...json }, body: body && JSON.stringify(body) });
  if (!answer.ok) throw await failure(answer);
  return answer.status === 204 ? null : answer.json();
}

// Not fetch, which does not report the progress of an upload.
export function upload(path, form, onShare) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onShare(event.loaded / event.total);
    request.onerror = () => reject(new ApiError(0, "the connection was lost; try again"));
    request.onload = () => {
      let body = {};
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // Not JSON: the answer of a proxy.
      }
      if (request.status < 300) resolve(body);
      else reject(new ApiError(request.status, body.detail ?? `the service answered ${request.status}`));
    };
    request.send(form);
  });
}

// Server-sent events by fetch, because EventSource cannot send our header. Returns when the stream has ended.
export async function follow(path, onEvent, signal) {
  let lastId = null;
  for (let failures = 0; !signal.aborted; ) {
    try {
      const resume = lastId === null ? {} : { "Last-Event-ID": lastId };
      const answer = await fetch(path, { headers: { ...headers(), ...resume }, signal });
      if (answer.status === 204) return;
      if (!answer.ok) throw await failure(answer);
      failures = 0;
      let rest = "";
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const blocks = (rest + part.value).split(/\r?\n\r?\n/);
        rest = blocks.pop();
        for (const block of blocks) lastId = deliver(block, onEvent) ?? lastId;
      }
    } catch (error) {
      if (signal.aborted) return;
      const refused = error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429;
      if (refused || ++failures > 8) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(8000, 250 * 2 ** failures)));
  }
}

function deliver(block, onEvent) {
  const fields = {};
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (name) fields[name] = value;
  }
  if (fields.data) onEvent(fields.event ?? "message", JSON.parse(fields.data));
  return fields.id;
}
