// The timeline: source speech above, the dub below, filled in as lines arrive.

import { node } from "./svg.js";

const LANES = { source: 12, dub: 44 };
const LANE_HEIGHT = 24;
const AXIS = 86;

export class Timeline {
  constructor(figure, onSeek) {
    this.figure = figure;
    this.onSeek = onSeek;
  }

  // `spans`: {lane: "source" | "dub", start_s, end_s, text, kind}
  draw(duration_s, spans) {
    this.duration_s = duration_s || Math.max(1, ...spans.map((span) => span.end_s));
    const width = Math.max(300, this.figure.clientWidth);
    const x = (time_s) => (time_s / this.duration_s) * width;
    const svg = node("svg", { viewBox: `0 0 ${width} 90`, preserveAspectRatio: "none", role: "img" });
    for (const [label, y] of Object.entries(LANES)) svg.append(node("text", { x: 4, y: y - 1 }, label));
    for (const span of spans) {
      const rect = node("rect", {
        class: `${span.lane} ${span.kind}`,
        x: x(span.start_s),
        y: LANES[span.lane] + 2,
        width: Math.max(1.5, x(span.end_s) - x(span.start_s) - 1),
        height: LANE_HEIGHT - 4,
        rx: 2,
      });
      rect.append(node("title", {}, span.text));
      svg.append(rect);
    }
    const step_s = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800].find((step) => this.duration_s / step <= 12) ?? 3600;
    for (let time_s = 0; time_s <= this.duration_s; time_s += step_s) {
      svg.append(node("text", { x: Math.min(width - 30, x(time_s) + 2), y: AXIS }, clock(time_s)));
    }
    this.head = node("line", { class: "head", y1: 0, y2: 90, x1: 0, x2: 0 });
    svg.append(this.head);
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      this.onSeek(((event.clientX - box.left) / box.width) * this.duration_s);
    });
    this.width = width;
    this.figure.replaceChildren(svg);
  }

  moveHead(time_s) {
    if (!this.head) return;
    const at = (time_s / this.duration_s) * this.width;
    this.head.setAttribute("x1", at);
    this.head.setAttribute("x2", at);
  }
}

export function clock(time_s) {
  const seconds = Math.floor(time_s);
  const rest = String(seconds % 60).padStart(2, "0");
  const minutes = Math.floor(seconds / 60) % 60;
  const hours = Math.floor(seconds / 3600);
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
