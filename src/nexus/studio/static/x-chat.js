// <x-chat src="URL">: a conversation with an OpenAI-compatible endpoint, streamed, that can be stopped at any word.
import { render } from "./markdown.js";

/** @typedef {{role: "user" | "assistant", content: string}} Message */

class Chat extends HTMLElement {
  connectedCallback() {
    this.talk = /** @type {HTMLElement} */ (this.querySelector(".chat-talk"));
    this.form = /** @type {HTMLFormElement} */ (this.querySelector("form"));
    this.box = /** @type {HTMLTextAreaElement} */ (this.querySelector("textarea"));
    this.sendButton = /** @type {HTMLElement} */ (this.querySelector("[data-send]"));
    this.stopButton = /** @type {HTMLElement} */ (this.querySelector("[data-stop]"));
    this.model = /** @type {HTMLSelectElement | null} */ (this.querySelector("select"));
    /** @type {Message[]} */
    this.messages = [];
    this.greeting = this.talk.firstElementChild;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    });
    this.stopButton.addEventListener("click", () => this.stop?.abort());
    this.querySelector("[data-clear]")?.addEventListener("click", () => this.clear());
    if (this.model) this.box.focus();
  }

  clear() {
    this.stop?.abort();
    this.messages = [];
    this.talk.replaceChildren(...(this.greeting ? [this.greeting] : []));
    this.box.focus();
  }

  /** @param {Message["role"]} role */
  bubble(role) {
    const said = document.createElement("article");
    said.className = `said ${role}`;
    said.setAttribute("aria-label", role === "user" ? "You" : "Model");
    const text = document.createElement("div");
    text.className = "text";
    const figures = document.createElement("div");
    figures.className = "figures";
    said.append(text, figures);
    this.talk.querySelector(".empty")?.remove();
    this.talk.append(said);
    this.talk.scrollTop = this.talk.scrollHeight;
    return { text, figures };
  }

  async send() {
    const content = this.box.value.trim();
    if (!content || this.stop || !this.model) return;
    this.box.value = "";
    this.bubble("user").text.textContent = content;
    const messages = this.messages; // a new chat begins another list, and the end of this answer is none of its
    messages.push({ role: "user", content });
    const { text, figures } = this.bubble("assistant");
    text.classList.add("waiting");
    this.stop = new AbortController();
    this.busy(true);
    const answer = { role: /** @type {const} */ ("assistant"), content: "" };
    try {
      await this.listen(answer, text, figures);
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "AbortError")) {
        const wrong = document.createElement("p");
        wrong.className = "wrong";
        wrong.textContent = error instanceof Error ? error.message : String(error);
        text.append(wrong);
      }
    }
    text.classList.remove("waiting", "writing");
    if (answer.content) messages.push(answer);
    else messages.pop(); // a question without an answer would confuse the model in the next one
    this.stop = undefined;
    this.busy(false);
  }

  /** @param {boolean} on */
  busy(on) {
    this.sendButton.hidden = on;
    this.stopButton.hidden = !on;
    if (!on) this.box.focus();
  }

  /** @param {Message} answer @param {HTMLElement} text @param {HTMLElement} figures */
  async listen(answer, text, figures) {
    const began = performance.now();
    let first = 0;
    let count = 0;
    const body = JSON.stringify({ model: this.model?.value, messages: this.messages, stream: true });
    const response = await fetch(this.getAttribute("src") ?? "", {
      method: "POST", body, headers: { "content-type": "application/json" }, signal: this.stop?.signal,
    });
    if (!response.ok || !response.body) throw new Error(await problem(response));
    for await (const event of events(response.body)) {
      if (event.error) throw new Error(event.error.message ?? "the model failed");
      const piece = event.choices?.[0]?.delta?.content ?? "";
      if (!piece) continue;
      first ||= performance.now();
      count += 1;
      answer.content += piece;
      this.write(answer.content, text);
      const seconds = (performance.now() - first) / 1000;
      const rate = count > 1 && seconds > 0 ? ` · ${((count - 1) / seconds).toFixed(1)} tok/s` : "";
      figures.textContent = `first token ${Math.round(first - began)} ms${rate} · ${count} tokens`;
    }
  }

  /** @param {string} content @param {HTMLElement} text */
  write(content, text) {
    const atEnd = this.talk.scrollHeight - this.talk.scrollTop - this.talk.clientHeight < 60;
    text.classList.replace("waiting", "writing");
    text.replaceChildren(...render(content));
    if (atEnd) this.talk.scrollTop = this.talk.scrollHeight;
  }
}

/** @param {Response} response */
async function problem(response) {
  const body = await response.json().catch(() => null);
  return body?.error?.message ?? `the endpoint answered with status ${response.status}`;
}

/** The JSON of each server-sent event. @param {ReadableStream<Uint8Array>} body */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

customElements.define("x-chat", Chat);
