// Small plots in SVG: lines over time, and points. Behind each is a table with the same values.

import { node } from "./svg.js";

const HEIGHT = 150;
const MARGIN = { left: 44, right: 8, top: 10, bottom: 20 };
const MAX_ROWS = 40;

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function number(value, unit = "") {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
  const text = size > 0 && size < 0.1 ? String(+value.toPrecision(2)) : value.toFixed(digits);
  return text + (unit && ` ${unit}`);
}

export function clock(time_s) {
  return new Date(1000 * time_s).toLocaleTimeString("en-GB"); // 24 hours, as the axes have no room for more
}

export function table(caption, heads, rows) {
  const made = element("table");
  const head = element("tr");
  for (const text of heads) head.append(Object.assign(element("th", "", text), { scope: "col" }));
  made.append(element("caption", "", caption), element("thead"), element("tbody"));
  made.tHead.append(head);
  for (const cells of rows) {
    const row = element("tr");
    for (const cell of cells) {
      const made = element("td", typeof cell === "string" && cell.length < 16 ? "" : "long");
      made.append(cell);
      row.append(made);
    }
    made.tBodies[0].append(row);
  }
  return made;
}

// Round values from `low` to `high`, about `wanted` of them.
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) found.push(at * step);
  return found;
}

function short(value) {
  return Math.abs(value) >= 1000 ? `${+(value / 1000).toFixed(1)}k` : String(+value.toPrecision(3));
}

// The frame of a plot: a figure with a title, an SVG, and a table that is filled when it is opened.
class Plot {
  constructor(figure, title, unit) {
    Object.assign(this, { figure, title, unit });
    this.caption = element("figcaption", "", title);
    this.svg = node("svg", {});
    this.legend = element("ul", "legend");
    this.details = element("details");
    this.details.append(element("summary", "", "Table"));
    this.details.addEventListener("toggle", () => this.fillTable());
    figure.replaceChildren(this.caption, this.svg, this.legend, this.details);
    new ResizeObserver(() => this.figure.clientWidth !== this.width && this.paint()).observe(figure);
  }

  fillTable() {
    if (!this.details.open) return;
    const box = element("div", "scroll");
    box.append(this.makeTable());
    this.details.replaceChildren(this.details.firstElementChild, box);
  }

  // Axes for these bounds; returns the functions from values to places.
  axes(xLow, xHigh, yLow, yHigh, xTicks, xText) {
    this.width = this.figure.clientWidth;
    const [width, right, bottom] = [this.width, this.width - MARGIN.right, HEIGHT - MARGIN.bottom];
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("height", HEIGHT);
    const x = (value) => MARGIN.left + ((value - xLow) / (xHigh - xLow || 1)) * (right - MARGIN.left);
    const y = (value) => bottom - ((value - yLow) / (yHigh - yLow || 1)) * (bottom - MARGIN.top);
    const drawn = [];
    for (const value of ticks(yLow, yHigh, 3)) {
      drawn.push(node("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y(value), y2: y(value) }));
      drawn.push(node("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)));
    }
    for (const value of xTicks) {
      const text = xText(value);
      const half = 3.5 * text.length;
      const place = Math.min(right - half, Math.max(MARGIN.left + half, x(value)));
      drawn.push(node("text", { x: place, y: HEIGHT - 5, "text-anchor": "middle" }, text));
    }
    this.svg.replaceChildren(...drawn);
    return [x, y];
  }
}

// Lines over time. A cursor, by mouse or by the arrow keys, reads the values at one time.
export class LinePlot extends Plot {
  constructor(figure, title, unit, { top = null } = {}) {
    super(figure, title, unit);
    Object.assign(this, { top, times: [], lines: [], at: null });
    for (const [name, value] of Object.entries({ tabindex: 0, role: "slider", "aria-valuemin": 0 })) {
      this.svg.setAttribute(name, value);
    }
    this.svg.setAttribute("aria-label", title);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.moveTo(null));
    this.svg.addEventListener("blur", () => this.moveTo(null));
    this.svg.addEventListener("keydown", (event) => this.press(event));
  }

  // `lines`: {name, values, kind}; of kind "target" is the dashed companion of the line before it.
  draw(times, lines) {
    // The cursor stays at its time, as the oldest samples are dropped.
    const time_s = this.at === null ? null : this.times[this.at];
    Object.assign(this, { times, lines });
    this.at = time_s === null ? null : Math.max(0, times.indexOf(time_s));
    this.paint();
    this.fillTable();
  }

  paint() {
    const { times, lines } = this;
    const values = lines.flatMap((line) => line.values).filter((value) => value !== null);
    const highest = this.top ?? (Math.max(0, ...values) * 1.08 || 1);
    const [first, last] = [times[0] ?? 0, times.at(-1) ?? 1];
    const xTicks = this.figure.clientWidth < 320 ? [first, last] : [first, (first + last) / 2, last];
    const [x, y] = this.axes(first, last, 0, highest, times.length ? xTicks : [], (time_s) => clock(time_s).slice(0, 5));
    this.x = x;
    let colour = -1;
    for (const line of lines) {
      if (line.kind !== "target") colour += 1;
      const d = path(times, line.values, x, y);
      this.svg.append(node("path", { class: `line c${colour % 6} ${line.kind ?? ""}`, d }));
    }
    this.cursor = node("line", { class: "cursor", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, x1: -9, x2: -9 });
    this.svg.append(this.cursor);
    this.showValues();
  }

  point(event) {
    if (!this.times.length) return;
    const box = this.svg.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * this.width;
    const off = this.times.map((time_s) => Math.abs(this.x(time_s) - place));
    this.moveTo(off.indexOf(Math.min(...off)));
  }

  press(event) {
    const last = this.times.length - 1;
    const from = this.at ?? last;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last, Escape: null }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.moveTo(to === null ? null : Math.min(last, Math.max(0, to)));
  }

  moveTo(at) {
    this.at = at;
    this.showValues();
  }

  showValues() {
    const last = this.times.length - 1;
    const at = this.at ?? last;
    const place = this.at === null ? -9 : this.x(this.times[this.at]);
    this.cursor.setAttribute("x1", place);
    this.cursor.setAttribute("x2", place);
    this.caption.textContent = this.at === null ? this.title : `${this.title}, ${clock(this.times[at])}`;
    const shown = this.lines.filter((line) => line.kind !== "target");
    this.legend.replaceChildren(
      ...shown.map((line, index) => {
        const item = element("li");
        const target = this.lines[this.lines.indexOf(line) + 1];
        const wanted = target?.kind === "target" ? ` of ${number(target.values[at])}` : "";
        const key = element("span", `key c${index % 6}`);
        item.append(key, `${line.name} `, element("b", "", number(line.values[at]) + wanted), ` ${this.unit}`);
        return item;
      }),
    );
    const text = shown.map((line) => `${line.name} ${number(line.values[at], this.unit)}`).join(", ");
    this.svg.setAttribute("aria-valuemax", Math.max(0, last));
    this.svg.setAttribute("aria-valuenow", Math.max(0, at));
    this.svg.setAttribute("aria-valuetext", last < 0 ? "no values yet" : `${clock(this.times[at])}: ${text}`);
  }

  makeTable() {
    const step = Math.max(1, Math.ceil(this.times.length / MAX_ROWS));
    const rows = [];
    for (let at = this.times.length - 1; at >= 0; at -= step) {
      rows.push([clock(this.times[at]), ...this.lines.map((line) => number(line.values[at]))]);
    }
    return table(`${this.title}, ${this.unit}`, ["time", ...this.lines.map((line) => line.name)], rows);
  }
}

function path(times, values, x, y) {
  let d = "";
  let isDown = false;
  values.forEach((value, at) => {
    if (value !== null) d += `${isDown ? "L" : "M"}${x(times[at]).toFixed(1)} ${y(value).toFixed(1)}`;
    // A value between two gaps is a dot.
    if (value !== null && !isDown && (values[at + 1] ?? null) === null) d += "h0.1";
    isDown = value !== null;
  });
  return d;
}

// Points, one each for a thing with a name.
export class ScatterPlot extends Plot {
  constructor(figure, title) {
    super(figure, title, "");
    this.svg.setAttribute("role", "img");
    this.points = [];
    this.labels = ["", ""];
  }

  // `points`: {name, x, y}; `labels` of x and y.
  draw(points, labels, text) {
    Object.assign(this, { points, labels });
    this.svg.setAttribute("aria-label", text);
    this.paint();
    this.fillTable();
  }

  paint() {
    const { points, labels } = this;
    const [xs, ys] = [points.map((point) => point.x), points.map((point) => point.y)];
    const [xHigh, yLow, yHigh] = [Math.max(1e-9, ...xs) * 1.1, Math.min(0, ...ys), Math.max(1e-9, ...ys) * 1.1];
    this.figure.hidden = points.length === 0;
    const [x, y] = this.axes(0, xHigh, yLow, yHigh, ticks(0, xHigh, 5), short);
    for (const point of points) {
      const dot = node("circle", { class: "dot", cx: x(point.x), cy: y(point.y), r: 4.5 });
      dot.append(node("title", {}, `${point.name}: ${number(point.y)}, ${number(point.x)} × realtime`));
      this.svg.append(dot);
    }
    this.caption.textContent = `${labels[1]} against ${labels[0]}`;
  }

  makeTable() {
    const rows = this.points.map((point) => [point.name, number(point.x), number(point.y)]);
    return table(this.title, ["dub", ...this.labels], rows);
  }
}
