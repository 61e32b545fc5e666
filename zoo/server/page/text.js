// A model's words on the page. They are never markup: every piece becomes a text node, and of Markdown only what can be
// built from elements without attributes is built. Links stay text, for where they lead is the model's word alone.

/** Make an element with text and children. */
export function element(name, {text, ...attributes} = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value === true ? "" : String(value));
  }
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

const LONG = 8000; // characters of one block past which it is shown as it is: formatting it again and again would cost

/** Text that grows: blocks that are complete are built once, the last one again with each frame. */
export class Growing {
  /** @param {HTMLElement} place @param {{formatted: boolean, grown?: () => void}} options */
  constructor(place, {formatted, grown = () => {}}) {
    Object.assign(this, {place, formatted, grown, tail: "", open: null, plain: null, frame: 0});
  }

  append(text) {
    this.tail += text;
    if (!this.frame) this.frame = requestAnimationFrame(() => this.flush());
  }

  /** Show everything that came. */
  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (this.formatted) this.build();
    else this.append_plain();
    this.grown();
  }

  append_plain() {
    if (!this.plain) {
      this.plain = document.createTextNode("");
      this.place.append(element("p", {dir: "auto"}, this.plain));
    }
    this.plain.appendData(this.tail);
    this.tail = "";
  }

  build() {
    if (this.plain) { // a block too long to format goes on as it is until it ends
      const end = this.tail.indexOf("\n\n");
      this.plain.appendData(end < 0 ? this.tail : this.tail.slice(0, end));
      this.tail = end < 0 ? "" : this.tail.slice(end + 2);
      if (end < 0) return;
      this.plain = null;
    }
    for (;;) {
      const block = firstBlock(this.tail);
      if (!block) break;
      if (!block.complete && block.source.length > LONG) {
        this.open?.remove();
        this.open = null;
        this.tail = block.source;
        this.append_plain();
        return;
      }
      const built = buildBlock(block);
      if (this.open) this.open.replaceWith(built);
      else this.place.append(built);
      this.open = block.complete ? null : built;
      if (!block.complete) return;
      this.tail = this.tail.slice(block.length);
    }
    this.open?.remove();
    this.open = null;
  }
}

const FENCE = /^ {0,3}(`{3,}|~{3,})([^\n`]*)(\n|$)/;

/** Take the first block of Markdown off a text; null where there is none. Complete: what follows cannot change it. */
function firstBlock(text) {
  const blank = /^\s*\n/.exec(text)?.[0].length ?? 0;
  const rest = text.slice(blank);
  if (!rest.trim()) return null;
  const fence = FENCE.exec(rest);
  if (fence) {
    const body = fence[0].length, mark = fence[1];
    for (let at = body - 1; (at = rest.indexOf(`\n${mark}`, at)) >= 0; at++) {
      const end = rest.indexOf("\n", at + 1);
      if (rest.slice(at + 1, end < 0 ? undefined : end).trim().replaceAll(mark[0], "") !== "") continue;
      return {kind: "code", source: rest.slice(body, Math.max(at, body)), length: blank + (end < 0 ? rest.length : end + 1), complete: end >= 0};
    }
    return {kind: "code", source: rest.slice(body), length: text.length, complete: false};
  }
  if (/^#{1,6} /.test(rest)) {
    const end = rest.indexOf("\n");
    return {kind: "heading", source: end < 0 ? rest : rest.slice(0, end), length: blank + (end < 0 ? rest.length : end + 1), complete: end >= 0};
  }
  const end = (ITEM.test(rest) ? LIST_END : TEXT_END).exec(rest)?.index ?? -1;
  return {kind: "text", source: end < 0 ? rest : rest.slice(0, end), length: blank + (end < 0 ? rest.length : end + 1), complete: end >= 0};
}

const TEXT_END = /\n(?=\s*\n|`{3}|~{3}|#{1,6} |[-*+] |\d{1,9}[.)] )/;
const LIST_END = /\n(?=\s*\n|`{3}|~{3}|#{1,6} )/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+/;

function buildBlock({kind, source}) {
  if (kind === "code") return element("pre", {dir: "auto", tabindex: "0"}, element("code", {text: source}));
  if (kind === "heading") return spans(element("h3", {dir: "auto"}), source.replace(/^#+ /, "").replace(/ #+\s*$/, ""));
  const lines = source.split("\n");
  if (lines.every(line => /^> ?/.test(line))) {
    return spans(element("blockquote", {dir: "auto"}), lines.map(line => line.replace(/^> ?/, "")).join("\n"));
  }
  return ITEM.test(lines[0]) ? buildList(lines) : spans(element("p", {dir: "auto"}), source);
}

/** Build a list, items under items where they are further in; lines that begin none belong to the item above. */
function buildList(lines) {
  const items = [];
  for (const line of lines) {
    const mark = ITEM.exec(line);
    if (mark) items.push({depth: mark[1].length, number: parseInt(mark[2], 10), text: line.slice(mark[0].length)});
    else items.at(-1).text += `\n${line.trim()}`;
  }
  const make = one => Number.isNaN(one.number) ? element("ul", {}) : element("ol", {start: one.number});
  const root = make(items[0]);
  const stack = [{depth: items[0].depth, list: root}];
  for (const one of items) {
    while (stack.length > 1 && one.depth < stack.at(-1).depth) stack.pop();
    const last = stack.at(-1);
    if (one.depth > last.depth + 1 && last.list.lastElementChild && stack.length < 6) {
      const list = make(one);
      last.list.lastElementChild.append(list);
      stack.push({depth: one.depth, list});
    }
    stack.at(-1).list.append(spans(element("li", {dir: "auto"}), one.text));
  }
  return root;
}

const MARKS = [["**", "strong"], ["__", "strong"], ["*", "em"], ["`", "code"]];

/** Write a line's text into an element, with code, strong and emphasized spans. */
function spans(place, text, depth = 0) {
  let from = 0;
  for (let at = 0; at < text.length;) {
    const mark = depth < 4 ? MARKS.find(([sign]) => text.startsWith(sign, at)) : undefined;
    const inner = mark && span(text, at, mark[0]);
    if (!inner) {
      at += mark ? mark[0].length : 1;
      continue;
    }
    place.append(text.slice(from, at));
    const made = element(mark[1]);
    if (mark[1] === "code") made.textContent = inner.text;
    else spans(made, inner.text, depth + 1);
    place.append(made);
    at = from = inner.end;
  }
  place.append(text.slice(from));
  return place;
}

/** Find what a sign at a place opens, up to the same sign; null where it opens nothing. */
function span(text, at, sign) {
  const begin = at + sign.length, code = sign === "`";
  if (!code && (/\s/.test(text[begin] ?? " ") || /\w/.test(text[at - 1] ?? " "))) return null;
  for (let end = text.indexOf(sign, begin); end >= 0; end = text.indexOf(sign, end + 1)) {
    const closes = code || (!/\s/.test(text[end - 1]) && !/[\w*]/.test(text[end + sign.length] ?? " "));
    if (end > begin && closes) return {text: text.slice(begin, end), end: end + sign.length};
  }
  return null;
}
