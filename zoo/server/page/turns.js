// A turn on the page: what was asked, the answer as it grows, what may be done with it, and what went wrong.

import {Growing, element} from "./text.js";

/** One turn: a prompt, and the answer to it. */
export class Turn {
  /**
   * @param {{prompt: string, chat: boolean, model: string}} asked
   * @param {{again: (turn: Turn) => void, goOn: (text: string) => void, grown: () => void}} can
   */
  constructor(asked, can) {
    Object.assign(this, asked, {answer: "", failed: false});
    this.can = can;
    this.question = article("You", "you", asked.prompt);
    this.place = element("div", {class: "words"});
    this.foot = element("div", {class: "under"});
    this.reply = element("article", {class: "reply", "aria-label": asked.model},
      element("h3", {class: "who", text: asked.model}), this.place, this.foot);
    if (!asked.chat) this.question.querySelector(".who").textContent = "Text";
  }

  /** Begin the answer, or begin it again. */
  start(model) {
    Object.assign(this, {model, answer: "", failed: false});
    this.reply.querySelector(".who").textContent = model;
    this.reply.setAttribute("aria-label", model);
    this.reply.setAttribute("aria-busy", "true");
    this.reply.classList.add("running");
    this.place.replaceChildren();
    this.foot.replaceChildren(element("span", {class: "soft", text: "waiting for the first token"}));
    this.text = new Growing(this.place, {formatted: this.chat, grown: this.can.grown});
    clearInterval(this.timer);
  }

  grow(text) {
    if (!this.answer) this.foot.replaceChildren();
    this.answer += text;
    this.text.append(text);
  }

  /** Show how fast it comes while it comes; nothing that is read aloud. */
  pace(words) {
    if (this.foot.textContent !== words) this.foot.replaceChildren(element("span", {class: "soft", "aria-hidden": "true", text: words}));
  }

  /** End the answer: say how it went, and what can be done now. */
  finish(words, failure = null) {
    this.text.flush();
    this.reply.removeAttribute("aria-busy");
    this.reply.classList.remove("running");
    this.failed = failure !== null;
    const parts = words ? [element("span", {class: "soft", text: words})] : [];
    if (this.answer) parts.push(this.copyButton());
    if (!this.chat && this.answer) parts.push(button("Go on from here", () => this.can.goOn(this.prompt + this.answer)));
    if (!failure) parts.push(button("Regenerate", () => this.can.again(this), "again"));
    this.foot.replaceChildren(...parts);
    if (failure) this.place.append(this.trouble(failure));
    this.can.grown();
  }

  /** Only the last turn can be answered again. */
  retire() {
    this.foot.querySelector(".again")?.remove();
    this.place.querySelector(".trouble button")?.remove();
    clearInterval(this.timer);
  }

  remove() {
    clearInterval(this.timer);
    this.question.remove();
    this.reply.remove();
  }

  copyButton() {
    const made = button("Copy", async () => {
      try {
        await navigator.clipboard.writeText(this.answer);
        made.textContent = "Copied";
      } catch { // an address that is not this machine's has no clipboard without TLS
        getSelection().selectAllChildren(this.place);
        made.textContent = "Selected, copy it";
      }
      setTimeout(() => { made.textContent = "Copy"; }, 1500);
    });
    return made;
  }

  trouble(failure) {
    const words = element("p", {text: failure.message});
    const retry = button("Try again", () => this.can.again(this));
    let seconds = Math.ceil(failure.retryAfter);
    const count = () => {
      retry.disabled = seconds > 0;
      retry.textContent = seconds > 0 ? `Try again in ${seconds} s` : "Try again";
      if (seconds-- <= 0) clearInterval(this.timer);
    };
    count();
    if (failure.retryAfter) this.timer = setInterval(count, 1000);
    return element("div", {class: "trouble", role: "alert"}, words, retry);
  }
}

function button(text, act, name = "") {
  const made = element("button", {type: "button", class: `small ${name}`.trim(), text});
  made.addEventListener("click", act);
  return made;
}

function article(who, kind, text) {
  return element("article", {class: kind, "aria-label": who}, element("h3", {class: "who", text: who}),
    element("div", {class: "words"}, element("p", {dir: "auto", text})));
}
