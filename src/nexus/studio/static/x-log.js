// <x-log search="URL">: the newest lines of a run, followed until the reader scrolls up; searches the whole log on the server.
import { nodes } from "./ansi.js";

/** @typedef {{at: number, stream: string, text: string, from: string}} Line */
const MOST_LINES = 2000;

class Log extends HTMLElement {
  connectedCallback() {
    this.lines = /** @type {HTMLElement} */ (this.querySelector(".log-lines"));
    this.follow = /** @type {HTMLButtonElement} */ (this.querySelector("[data-follow]"));
    this.find = /** @type {HTMLInputElement} */ (this.querySelector("input"));
    this.note = /** @type {HTMLElement} */ (this.querySelector("[data-note]"));
    /** @type {Line[]} */
    this.tail = [];
    this.following = true;
    this.follow.addEventListener("click", () => this.setFollowing(!this.following));
    this.lines.addEventListener("wheel", (event) => event.deltaY < 0 && this.setFollowing(false), { passive: true });
    this.lines.addEventListener("scroll", () => this.atEnd() && this.setFollowing(true));
    this.find.addEventListener("input", () => {
      clearTimeout(this.soon);
      this.soon = setTimeout(() => this.search(), 250);
    });
    document.addEventListener("live:log", (event) => this.take(/** @type {CustomEvent} */ (event).detail));
  }

  atEnd() {
    return this.lines.scrollHeight - this.lines.scrollTop - this.lines.clientHeight < 24;
  }

  /** @param {boolean} on */
  setFollowing(on) {
    if (on && !this.following) this.lines.scrollTop = this.lines.scrollHeight;
    this.following = on;
    this.follow.setAttribute("aria-pressed", String(on));
    this.follow.textContent = on ? "Pause" : "Follow";
  }

  /** @param {{lines: Line[], skipped: number}} piece */
  take(piece) {
    this.tail.push(...piece.lines);
    this.tail.splice(0, this.tail.length - MOST_LINES);
    if (piece.skipped) this.note.textContent = `${piece.skipped.toLocaleString("en")} lines were skipped: search or download the log`;
    if (this.find.value.trim()) return;
    this.show(piece.lines);
  }

  /** @param {Line[]} lines */
  show(lines, wanted = "") {
    const several = new Set(this.tail.map((line) => line.from)).size > 1;
    const rows = document.createDocumentFragment();
    for (const line of lines) rows.append(row(line, several, wanted));
    this.lines.querySelector(".empty")?.remove();
    this.lines.append(rows);
    while (this.lines.childElementCount > MOST_LINES) this.lines.firstElementChild?.remove();
    if (this.following) this.lines.scrollTop = this.lines.scrollHeight;
  }

  async search() {
    const text = this.find.value.trim();
    this.lines.replaceChildren();
    this.note.textContent = "";
    if (!text) return this.show(this.tail);
    const answer = await fetch(`${this.getAttribute("search")}?text=${encodeURIComponent(text)}`);
    if (this.find.value.trim() !== text) return; // the reader has typed on
    const found = answer.ok ? await answer.json() : [];
    this.note.textContent = answer.ok ? `${found.length} lines match` : "the search failed";
    this.show(found, text);
  }
}

/** @param {Line} line @param {boolean} several @param {string} wanted */
function row(line, several, wanted) {
  const made = document.createElement("div");
  const time = document.createElement("time");
  time.textContent = new Date(line.at).toLocaleTimeString("en-GB");
  const text = document.createElement("span");
  text.className = line.stream;
  text.append(...nodes(line.text));
  if (wanted) mark(text, wanted.toLowerCase());
  made.append(time);
  if (several) {
    const from = document.createElement("span");
    from.className = "from";
    from.textContent = line.from;
    made.append(from);
  }
  made.append(text);
  return made;
}

/** @param {HTMLElement} where @param {string} wanted */
function mark(where, wanted) {
  for (const node of [...where.childNodes].filter((child) => child instanceof Text)) {
    const at = (node.textContent ?? "").toLowerCase().indexOf(wanted);
    if (at < 0) continue;
    const hit = /** @type {Text} */ (node).splitText(at);
    hit.splitText(wanted.length);
    const found = document.createElement("mark");
    hit.replaceWith(found);
    found.append(hit);
  }
}

customElements.define("x-log", Log);
