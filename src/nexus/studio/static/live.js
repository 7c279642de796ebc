// One stream per page: every part of it listens to `live:*` events on the document, and none opens a connection itself.
const source = document.querySelector("[data-stream]")?.getAttribute("data-stream");

/** @param {string} name @param {unknown} detail */
const tell = (name, detail) => document.dispatchEvent(new CustomEvent(`live:${name}`, { detail }));

if (source) {
  // EventSource reconnects by itself and sends the last event's id, which is the cursor to go on from.
  const events = new EventSource(source);
  for (const name of ["series", "log", "run"]) {
    events.addEventListener(name, (event) => tell(name, JSON.parse(event.data)));
  }
  events.addEventListener("end", () => {
    events.close();
    tell("end", null);
  });
  events.addEventListener("open", () => tell("link", true));
  events.addEventListener("error", () => tell("link", false));
  addEventListener("pagehide", () => events.close());
}
