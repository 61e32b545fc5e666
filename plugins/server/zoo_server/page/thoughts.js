// Thoughts that a model writes before its answer, where the server passes them on as text.

const START = "<think>", END = "</think>";

/** Splits an answer that comes piece by piece into [thoughts, words]. */
export class Splitter {
  constructor() {
    Object.assign(this, {held: "", state: "start"});
  }

  add(piece) {
    if (this.state === "words") return ["", piece];
    this.held += piece;
    if (this.state === "start") {
      const begun = this.held.trimStart();
      if (START.startsWith(begun) && begun !== START) return ["", ""];
      if (!begun.startsWith(START)) return this.open("", this.held);
      this.state = "thoughts";
      this.held = begun.slice(START.length);
    }
    const end = this.held.indexOf(END);
    if (end >= 0) return this.open(this.held.slice(0, end), this.held.slice(end + END.length).trimStart());
    let keep = Math.min(END.length - 1, this.held.length);
    while (keep && !END.startsWith(this.held.slice(-keep))) keep--;
    const sure = this.held.slice(0, this.held.length - keep);
    this.held = this.held.slice(this.held.length - keep);
    return [sure, ""];
  }

  rest() {
    const held = this.held;
    this.held = "";
    return this.state === "thoughts" ? [held, ""] : ["", held];
  }

  open(thoughts, words) {
    Object.assign(this, {state: "words", held: ""});
    return [thoughts, words];
  }
}
