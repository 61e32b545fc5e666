// Blocks of Markdown: code, headings, lists, tables, quotes, rules and paragraphs.

import {button, copy, element} from "./dom.js";
import {spans} from "./inline.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})([^\n`]*)(\n|$)/;

/** Take the first block of Markdown off a text; null where there is none. Complete: what follows cannot change it. */
export function firstBlock(text) {
  const blank = /^\s*\n/.exec(text)?.[0].length ?? 0;
  const rest = text.slice(blank);
  if (!rest.trim()) return null;
  const fence = FENCE.exec(rest);
  if (fence) {
    const body = fence[0].length, mark = fence[1], language = fence[2].trim().split(/\s+/)[0].slice(0, 30);
    for (let at = body - 1; (at = rest.indexOf(`\n${mark}`, at)) >= 0; at++) {
      const end = rest.indexOf("\n", at + 1);
      if (rest.slice(at + 1, end < 0 ? undefined : end).trim().replaceAll(mark[0], "") !== "") continue;
      return {kind: "code", language, source: rest.slice(body, Math.max(at, body)), length: blank + (end < 0 ? rest.length : end + 1), complete: end >= 0};
    }
    return {kind: "code", language, source: rest.slice(body), length: text.length, complete: false};
  }
  const rule = RULE.exec(rest);
  if (rule) return {kind: "rule", source: "", length: blank + rule[0].length, complete: rule[0].endsWith("\n")};
  if (/^#{1,6} /.test(rest)) {
    const end = rest.indexOf("\n");
    return {kind: "heading", source: end < 0 ? rest : rest.slice(0, end), length: blank + (end < 0 ? rest.length : end + 1), complete: end >= 0};
  }
  const end = (ITEM.test(rest) ? LIST_END : TEXT_END).exec(rest)?.index ?? -1;
  return {kind: "text", source: end < 0 ? rest : rest.slice(0, end), length: blank + (end < 0 ? rest.length : end + 1), complete: end >= 0};
}

const RULE = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})(?:\n|$)/;
const TEXT_END = /\n(?=\s*\n|`{3}|~{3}|#{1,6} |[-*+] |\d{1,9}[.)] |(?:\*{3,}|-{3,}|_{3,}) *\n)/;
const LIST_END = /\n(?=\s*\n|`{3}|~{3}|#{1,6} )/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+/;

export function buildBlock({kind, source, language}) {
  if (kind === "code") return buildCode(source, language);
  if (kind === "rule") return element("hr");
  if (kind === "heading") return spans(element("h3", {dir: "auto"}), source.replace(/^#+ /, "").replace(/ #+\s*$/, ""));
  const lines = source.split("\n");
  if (lines.every(line => /^> ?/.test(line))) {
    return spans(element("blockquote", {dir: "auto"}), lines.map(line => line.replace(/^> ?/, "")).join("\n"));
  }
  if (lines.length > 1 && lines[0].includes("|") && DIVIDER.test(lines[1])) return buildTable(lines);
  return ITEM.test(lines[0]) ? buildList(lines) : spans(element("p", {dir: "auto"}), source);
}

/** Show code with its language and a button that copies it; both are drawn, so that neither is part of the words. */
function buildCode(source, language) {
  const place = element("code", {text: source});
  const act = button("", async () => {
    act.dataset.said = await copy(source, place) ? "Copied" : "Selected";
    setTimeout(() => { act.dataset.said = "Copy"; }, 1500);
  }, "copy", {"aria-label": "Copy code", "data-said": "Copy"});
  return element("div", {class: "code", "data-language": language || "text"}, act, element("pre", {dir: "auto", tabindex: "0"}, place));
}

const DIVIDER = /^ *\|? *:?-+:? *(\| *:?-+:? *)*\|? *$/;

/** Build a table from its head, the line under it, and rows. */
function buildTable(lines) {
  const sides = cells(lines[1]).map(one => one.endsWith(":") ? (one.startsWith(":") ? "center" : "right") : "");
  const row = (kind, line) => element("tr", {}, ...sides.map((side, at) =>
    spans(element(kind, {dir: "auto", class: side || null}), cells(line)[at] ?? "")));
  return element("div", {class: "table", tabindex: "0"}, element("table", {},
    element("thead", {}, row("th", lines[0])), element("tbody", {}, ...lines.slice(2).map(line => row("td", line)))));
}

/** Take a row apart; a bar after a backslash or in code is none. */
function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  const found = [];
  let cell = "", code = false;
  for (let at = 0; at < inner.length; at++) {
    if (inner[at] === "`") code = !code;
    if (inner[at] === "\\" && inner[at + 1] === "|") cell += inner[++at];
    else if (inner[at] === "|" && !code) {
      found.push(cell.trim());
      cell = "";
    } else cell += inner[at];
  }
  return [...found, cell.trim()].slice(0, 50);
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
    const task = /^\[([ xX])\] +/.exec(one.text);
    const text = task ? `${task[1] === " " ? "\u2610" : "\u2611"} ${one.text.slice(task[0].length)}` : one.text;
    stack.at(-1).list.append(spans(element("li", {dir: "auto", class: task ? "task" : null}), text));
  }
  return root;
}
