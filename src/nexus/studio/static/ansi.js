// A terminal's line as safe DOM nodes: colours become classes, every other escape is dropped, text stays text.
const ESCAPE = /\u001b\[([0-9;:?]*)([ -/]*[@-~])|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b./g;

// Control characters, and those that turn the direction of what follows: a line must read as it was written.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** @param {string} codes @param {Set<string>} look */
function turn(codes, look) {
  for (const code of (codes || "0").split(";").map(Number)) {
    const colour = code >= 90 && code <= 97 ? code - 90 : code >= 30 && code <= 37 ? code - 30 : -1;
    if (code === 0) look.clear();
    else if (code >= 1 && code <= 4) look.add(`a${code}`);
    if (colour >= 0 || code === 39) for (let i = 0; i < 8; i += 1) look.delete(`c${i}`);
    if (colour >= 0) look.add(`c${colour}`);
    if (code === 38 || code === 48) return; // 256 colours and more: the default reads better
  }
}

/** @param {string} raw @returns {(Text | HTMLElement)[]} */
export function nodes(raw) {
  const text = raw.slice(raw.lastIndexOf("\r", raw.length - 2) + 1); // a progress bar's last state
  const look = new Set();
  const made = [];
  let from = 0;
  const add = (/** @type {string} */ part) => {
    const clean = part.replace(UNSEEN, "");
    if (!clean) return;
    if (!look.size) return void made.push(document.createTextNode(clean));
    const span = document.createElement("span");
    span.className = [...look].join(" ");
    span.textContent = clean;
    made.push(span);
  };
  for (const match of text.matchAll(ESCAPE)) {
    add(text.slice(from, match.index));
    if (match[2] === "m") turn(match[1], look);
    from = match.index + match[0].length;
  }
  add(text.slice(from));
  return made;
}
