// A conversation: a tree of turns, since an earlier message may be asked again in other words, and one way through it.

const LONGEST = 60;
const text = value => typeof value === "string" ? value : "";

export class Conversation {
  /** @param {object} [kept] one that was kept or imported; whatever it holds is read as plain values */
  constructor(kept = {}) {
    this.id = text(kept.id) || crypto.getRandomValues(new Uint32Array(3)).join("-");
    this.title = text(kept.title).slice(0, 200);
    this.changed = Number(kept.changed) || 0;
    this.system = text(kept.system);
    this.chat = kept.chat !== false;
    this.turns = [];
    for (const one of Array.isArray(kept.turns) ? kept.turns.slice(0, 5000) : []) {
      const parent = Number.isInteger(one?.parent) && one.parent >= 0 && one.parent < this.turns.length ? one.parent : -1;
      this.turns.push({parent, prompt: text(one?.prompt), answer: text(one?.answer), reasoning: text(one?.reasoning),
        model: text(one?.model), said: text(one?.said), chosen: Number.isInteger(one?.chosen) ? one.chosen : -1});
    }
    this.first = Number.isInteger(kept.first) ? kept.first : -1; // the chosen one of those that begin it
  }

  /** Add a turn after another; -1 begins the conversation. */
  add(parent, prompt, model) {
    const turn = {parent, prompt, answer: "", reasoning: "", model, said: "", chosen: -1};
    this.turns.push(turn);
    this.choose(turn);
    this.title ||= prompt.trim().split("\n")[0].slice(0, LONGEST) || "Untitled";
    return turn;
  }

  /** The turns on the way that was chosen, first to last. */
  path() {
    const found = [];
    for (let at = -1; ;) {
      const next = this.following(at);
      const chosen = at < 0 ? this.first : this.turns[at].chosen;
      const turn = next.includes(this.turns[chosen]) ? this.turns[chosen] : next.at(-1);
      if (!turn) return found;
      found.push(turn);
      at = this.turns.indexOf(turn);
    }
  }

  following(parent) {
    return this.turns.filter((one, at) => one.parent === parent && at > parent);
  }

  /** Turns in the same place: other words for the same message. */
  beside(turn) {
    return this.following(turn.parent);
  }

  choose(turn) {
    const at = this.turns.indexOf(turn);
    if (turn.parent < 0) this.first = at;
    else this.turns[turn.parent].chosen = at;
  }

  plain() {
    const {id, title, changed, system, chat, turns, first} = this;
    return {id, title, changed, system, chat, turns, first};
  }
}
