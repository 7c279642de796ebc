// A model's Markdown as DOM nodes: paragraphs, lists, headings, fenced code, `code`, **bold**, *italic*. Never as HTML.
const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|\*([^*\s][^*\n]*)\*/g;

/** @param {string} tag @param {(Node | string)[]} inside */
function element(tag, ...inside) {
  const made = document.createElement(tag);
  made.append(...inside);
  return made;
}

/** @param {string} text @returns {(Node | string)[]} */
function inline(text) {
  const made = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    made.push(text.slice(from, match.index));
    if (match[1] !== undefined) made.push(element("code", match[1]));
    else if (match[2] !== undefined) made.push(element("strong", match[2]));
    else made.push(element("em", match[3]));
    from = match.index + match[0].length;
  }
  made.push(text.slice(from));
  return made;
}

/** @param {string} block @returns {Node} */
function paragraph(block) {
  const heading = block.match(/^#{1,6}\s+(.+)$/);
  if (heading) return element("h3", ...inline(heading[1]));
  const rows = block.split("\n");
  for (const [tag, mark] of /** @type {[string, RegExp][]} */ ([["ul", /^\s*[-*•]\s+/], ["ol", /^\s*\d+[.)]\s+/]])) {
    if (rows.every((row) => mark.test(row))) {
      return element(tag, ...rows.map((row) => element("li", ...inline(row.replace(mark, "")))));
    }
  }
  return element("p", ...rows.flatMap((row, i) => (i ? [document.createElement("br"), ...inline(row)] : inline(row))));
}

/** A list that follows its sentence without an empty line is a block of its own. @param {string} text */
const blocks = (text) =>
  text.replace(/^(?!\s*(?:[-*•]|\d+[.)])\s)(.+)\n(?=\s*(?:[-*•]|\d+[.)])\s)/gm, "$1\n\n").split(/\n{2,}/).filter((block) => block.trim());

/** @param {string} source @returns {Node[]} */
export function render(source) {
  const made = [];
  source.split(/^```/m).forEach((part, i) => {
    if (i % 2 === 0) return void made.push(...blocks(part).map((block) => paragraph(block.trim())));
    const pre = element("pre", element("code", part.replace(/^[^\n]*\n/, "").replace(/\n$/, "")));
    pre.tabIndex = 0;
    made.push(pre);
  });
  return made;
}
