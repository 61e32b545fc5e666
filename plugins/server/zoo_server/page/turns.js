// A turn on the page: what was asked, the answer as it grows, what may be done with it, and what went wrong.

import {button, copy, element} from "./dom.js";
import {Growing} from "./text.js";

/** Shows one turn of a conversation. */
export class Turn {
  /**
   * @param {object} kept the turn as it is kept: prompt, answer, reasoning, model, said
   * @param {boolean} chat whether it is a question, or a text to go on with
   * @param {{again, goOn, edit, turn, grown}} can what may be done
   */
  constructor(kept, chat, can) {
    Object.assign(this, {kept, chat, can, failed: false});
    const who = chat ? "You" : "Text";
    this.bar = element("div", {class: "under"});
    this.question = element("article", {class: "you", "aria-label": "You"}, element("h3", {class: "who", text: who}),
      element("div", {class: "words"}, element("p", {dir: "auto", text: kept.prompt})), this.bar);
    this.place = element("div", {class: "words"});
    this.thought = element("div", {class: "musing"});
    this.thoughts = element("details", {class: "thoughts", hidden: true}, element("summary", {text: "Thoughts"}), this.thought);
    this.calls = element("div", {class: "calls", hidden: true});
    this.foot = element("div", {class: "under"});
    this.reply = element("article", {class: "reply", "aria-label": kept.model},
      element("h3", {class: "who", text: kept.model}), this.thoughts, this.place, this.calls, this.foot);
    if (kept.answer || kept.reasoning) this.restore();
  }

  /** Show an answer that was kept. */
  restore() {
    this.begin();
    if (this.kept.reasoning) this.think(this.kept.reasoning, true);
    this.text.append(this.kept.answer);
    this.finish(this.kept.said);
  }

  begin() {
    this.place.replaceChildren();
    this.thought.replaceChildren();
    this.calls.replaceChildren();
    this.calls.hidden = this.thoughts.hidden = true;
    this.called = [];
    this.text = new Growing(this.place, {formatted: this.chat, grown: this.can.grown});
    this.thinking = new Growing(this.thought, {formatted: true, grown: this.can.grown});
    clearInterval(this.timer);
  }

  /** Begin the answer, or begin it again. */
  start(model) {
    Object.assign(this.kept, {model, answer: "", reasoning: "", said: ""});
    this.failed = false;
    this.reply.querySelector(".who").textContent = model;
    this.reply.setAttribute("aria-label", model);
    this.reply.setAttribute("aria-busy", "true");
    this.reply.classList.add("running");
    this.begin();
    this.bar.replaceChildren();
    this.foot.replaceChildren(element("span", {class: "soft", text: "waiting for the first token"}));
  }

  grow(text) {
    this.came();
    this.kept.answer += text;
    this.text.append(text);
  }

  /** Take thoughts, which are folded: a click shows them. */
  think(text, kept = false) {
    if (!kept) {
      this.came();
      this.kept.reasoning += text;
    }
    this.thoughts.hidden = false;
    this.thinking.append(text);
  }

  /** Take a piece of a call of a tool. */
  call({index = 0, function: said = {}}) {
    this.came();
    const call = this.called[index] ??= {name: "", arguments: "", place: this.calls.appendChild(element("pre", {dir: "auto", tabindex: "0"}))};
    call.name += said.name ?? "";
    call.arguments += said.arguments ?? "";
    call.place.textContent = `${call.name}(${call.arguments})`;
    this.calls.hidden = false;
  }

  came() {
    if (!this.kept.answer && !this.kept.reasoning && !this.called.length) this.foot.replaceChildren();
  }

  /** Show how fast it comes while it comes; nothing that is read aloud. */
  pace(words) {
    if (this.foot.textContent !== words) this.foot.replaceChildren(element("span", {class: "soft", "aria-hidden": "true", text: words}));
  }

  /** End the answer: say how it went, and what can be done now. */
  finish(words, failure = null) {
    this.text.flush();
    this.thinking.flush();
    this.reply.removeAttribute("aria-busy");
    this.reply.classList.remove("running");
    this.failed = failure !== null;
    this.kept.said = words;
    const {answer, prompt} = this.kept;
    const parts = words ? [element("span", {class: "soft", text: words})] : [];
    if (answer) parts.push(this.copyButton());
    if (!this.chat && answer) parts.push(button("Go on from here", () => this.can.goOn(prompt + answer)));
    if (!failure) parts.push(button("Regenerate", () => this.can.again(this), "again"));
    this.foot.replaceChildren(...parts);
    if (failure) this.place.append(this.trouble(failure));
    this.can.grown();
  }

  /** Show what may be done with the question: ask in other words, and go between those that were tried. */
  offer(beside) {
    const parts = [button("Edit", () => this.can.edit(this), "edit")];
    if (beside.length > 1) {
      const at = beside.indexOf(this.kept);
      const step = (by, sign, name) => button(sign, () => this.can.turn(beside[at + by]), "", {"aria-label": name, disabled: !beside[at + by]});
      parts.unshift(step(-1, "‹", "Earlier words"), element("span", {class: "soft", text: `${at + 1} of ${beside.length}`}), step(1, "›", "Later words"));
    }
    this.bar.replaceChildren(...parts);
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
      made.textContent = await copy(this.kept.answer, this.place) ? "Copied" : "Selected, copy it";
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
