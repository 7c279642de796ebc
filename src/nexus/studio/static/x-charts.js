// <x-charts>: a card with a live chart for every metric that the run logs. Drawn by uPlot, coloured by the page's tokens.
// <x-charts of="system/"> takes those whose names begin so, and its section appears with the first; others take the rest.
/** @typedef {{key: string, line: string, steps: number[], values: (number | null)[], last: number | null, whole: boolean}} Piece */
/** @typedef {{steps: number[], values: (number | null)[]}} Line */

import { say, sayBytes } from "./numbers.js";

const MOST_POINTS = 4000;
const tint = (/** @type {string} */ name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// As wide as the longest label needs: bytes are long, losses are short.
/** @param {any} _ @param {string[] | null} labels */
const widthOf = (_, labels) => Math.max(44, ...(labels ?? []).map((label) => label.length * 6.4 + 16));

const WHOLE = Array.from({ length: 36 }, (_, i) => [1, 2, 5][i % 3] * 10 ** Math.floor(i / 3)); // no half steps
const PAD = { pad: 0.1, soft: 0, mode: 3 };

// One point, or one value again and again, is drawn in the middle, at its own scale.
/** @param {any} plot @param {number | null} least @param {number | null} most */
const acrossSteps = (plot, least, most) => {
  const steps = plot.data[0];
  return steps.length === 1 ? [steps[0] - 1, steps[0] + 1] : [least ?? 0, most ?? 1];
};
/** @param {any} _ @param {number | null} least @param {number | null} most */
const aroundValues = (_, least, most) => {
  if (least === null || most === null) return [0, 1];
  const room = Math.abs(least) / 10 || 1;
  return least === most ? [least - room, most + room] : uPlot.rangeNum(least, most, { min: PAD, max: PAD });
};

class Chart {
  /** @param {string} key */
  constructor(key) {
    /** @type {Map<string, Line>} */
    this.lines = new Map();
    this.say = /_b(_s)?$/.test(key) ? sayBytes : say;
    this.card = document.createElement("section");
    this.card.className = "card chart";
    this.card.innerHTML = '<header><h3></h3><span class="last"></span></header><div class="plot"></div><div class="legend"></div>';
    const title = /** @type {HTMLElement} */ (this.card.querySelector("h3"));
    title.textContent = title.title = key;
    this.place = /** @type {HTMLElement} */ (this.card.querySelector(".plot"));
    this.place.setAttribute("role", "img");
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.place);
  }

  /** @param {Piece} piece */
  take(piece) {
    const line = this.lines.get(piece.line);
    if (!line || piece.whole) {
      this.lines.set(piece.line, { steps: piece.steps, values: piece.values });
    } else {
      line.steps.push(...piece.steps);
      line.values.push(...piece.values);
      if (line.steps.length > MOST_POINTS) {
        line.steps = line.steps.filter((_, i) => i % 2 === 1);
        line.values = line.values.filter((_, i) => i % 2 === 1);
      }
    }
    if (piece.last !== null) {
      /** @type {HTMLElement} */ (this.card.querySelector(".last")).textContent = this.say(piece.last);
      this.place.setAttribute("aria-label", `${piece.key}: ${this.say(piece.last)} at step ${piece.steps.at(-1) ?? 0}`);
    }
  }

  size() {
    return { width: Math.max(this.place.clientWidth, 80), height: 190 };
  }

  table() {
    const all = [...this.lines.values()].map((line) => [line.steps, line.values]);
    return all.length === 1 ? all[0] : uPlot.join(all);
  }

  draw(fresh = false) {
    if (this.plot && !fresh && this.plot.series.length === this.lines.size + 1) {
      this.plot.setData(this.table());
      return;
    }
    this.plot?.destroy();
    this.plot = new uPlot(this.options(), this.table(), this.place);
    this.legend();
  }

  options() {
    const axis = { stroke: tint("--soft"), grid: { stroke: tint("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const colour = (/** @type {number} */ i) => tint(`--series-${(i % 6) + 1}`);
    const series = [...this.lines.keys()].map((label, i) => ({
      label, stroke: colour(i), width: 1.75, spanGaps: true, points: { show: (/** @type {any} */ u) => u.data[0].length < 2 },
    }));
    return {
      ...this.size(),
      scales: { x: { time: false, range: acrossSteps }, y: { range: aroundValues } },
      axes: [{ ...axis, size: 26, space: 60, incrs: WHOLE }, { ...axis, size: widthOf, values: (/** @type {any} */ _, /** @type {number[]} */ v) => v.map(this.say) }],
      cursor: { sync: { key: "run" }, points: { size: 6 }, drag: { x: true, y: false } },
      series: [{ label: "step" }, ...series],
    };
  }

  legend() {
    const legend = /** @type {HTMLElement} */ (this.card.querySelector(".legend"));
    legend.replaceChildren();
    if (this.lines.size < 2) return;
    [...this.lines.keys()].slice(0, 8).forEach((name, i) => {
      const key = document.createElement("span");
      const bar = document.createElement("i");
      bar.style.background = tint(`--series-${(i % 6) + 1}`);
      key.append(bar, name);
      legend.append(key);
    });
  }
}

class Charts extends HTMLElement {
  connectedCallback() {
    /** @type {Map<string, Chart>} */
    this.charts = new Map();
    document.addEventListener("live:series", (event) => this.take(/** @type {CustomEvent<Piece[]>} */ (event).detail));
    document.addEventListener("themechange", () => this.charts?.forEach((chart) => chart.draw(true)));
  }

  /** @param {Piece[]} pieces */
  take(pieces) {
    const changed = new Set();
    for (const piece of pieces.filter((one) => this.isMine(one.key))) {
      const chart = this.charts?.get(piece.key) ?? this.add(piece.key);
      chart.take(piece);
      changed.add(chart);
    }
    for (const chart of changed) chart.draw();
  }

  /** @param {string} key */
  isMine(key) {
    const of = this.getAttribute("of");
    const others = [...document.querySelectorAll("x-charts[of]")].map((one) => one.getAttribute("of") ?? "");
    return of === null ? !others.some((prefix) => key.startsWith(prefix)) : key.startsWith(of);
  }

  /** @param {string} key */
  add(key) {
    const chart = new Chart(key);
    this.charts?.set(key, chart);
    this.querySelector(".none")?.remove();
    this.append(chart.card);
    if (this.hasAttribute("of")) this.closest("section")?.removeAttribute("hidden");
    return chart;
  }
}

customElements.define("x-charts", Charts);
