// Calls to the service: the key, errors as sentences, events that resume where they broke off.

const KEY = "raydub-key";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function rememberKey(key) {
  sessionStorage.setItem(KEY, key);
  // Media elements send no header of ours: for reading, the service takes the key from this cookie too.
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `raydub_key=${encodeURIComponent(key)}; SameSite=Strict; Path=/${secure}`;
}

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

// fetch tells nothing of how far an upload is.
export function upload(path, form, onShare) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onShare(event.loaded / event.total);
    request.onerror = () => reject(new ApiError(0, "the connection broke; try again"));
    request.onload = () => {
      let body = {};
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // An answer of something between here and the service.
      }
      if (request.status < 300) resolve(body);
      else reject(new ApiError(request.status, body.detail ?? `the service answered ${request.status}`));
    };
    request.send(form);
  });
}

// Server-sent events by fetch: EventSource sends no header of ours. Ends with the stream's own end.
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
