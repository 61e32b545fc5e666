// A line of Markdown: code, strong and emphasized words, links that wait to be clicked, and formulas left as they are.

import {element} from "./dom.js";

const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "s"], ["*", "em"], ["_", "em"], ["`", "code"]];
const FORMULAS = [["$$", "$$"], ["\\[", "\\]"], ["\\(", "\\)"]];
const LINK = /\[([^\[\]\n]{1,500})\]\((https?:\/\/[^\s()<>]{1,2000})\)/y;
const ADDRESS = /https?:\/\/[^\s<>()\[\]"'`*]{1,2000}[^\s<>()\[\]"'`*.,;:!?]/y;

/** Write a line's text into an element. */
export function spans(place, text, depth = 0) {
  let from = 0;
  const put = (at, end, node) => {
    place.append(text.slice(from, at), node);
    from = end;
    return end;
  };
  for (let at = 0; at < text.length;) {
    const formula = formulaEnd(text, at);
    if (formula > at) { // its signs are no Markdown
      at = formula;
      continue;
    }
    const link = depth < 4 && linkAt(text, at);
    if (link) {
      at = put(at, link.end, anchor(link.text, link.href));
      continue;
    }
    const mark = depth < 4 ? MARKS.find(([sign]) => text.startsWith(sign, at)) : undefined;
    const inner = mark && span(text, at, mark[0]);
    if (!inner) {
      at += mark ? mark[0].length : 1;
      continue;
    }
    const made = element(mark[1]);
    if (mark[1] === "code") made.textContent = inner.text;
    else spans(made, inner.text, depth + 1);
    at = put(at, inner.end, made);
  }
  place.append(text.slice(from));
  return place;
}

/** A link says where it leads, is opened by a click alone, and tells that place nothing of this one. */
function anchor(text, href) {
  const made = element("a", {href, target: "_blank", rel: "noopener noreferrer nofollow", text});
  let host = "";
  try {
    host = new URL(href).host;
  } catch { /* no address after all */ }
  return text.includes(host) ? made : element("span", {}, made, element("span", {class: "soft", text: ` (${host})`}));
}

function linkAt(text, at) {
  if (text[at] === "[") {
    LINK.lastIndex = at;
    const found = LINK.exec(text);
    return found && {text: found[1], href: found[2], end: LINK.lastIndex};
  }
  if (text[at] !== "h" || /[\w/]/.test(text[at - 1] ?? " ")) return null;
  ADDRESS.lastIndex = at;
  const found = ADDRESS.exec(text);
  return found && {text: found[0], href: found[0], end: ADDRESS.lastIndex};
}

/** Find where a formula that begins here ends; 0 where none does. */
function formulaEnd(text, at) {
  for (const [open, close] of FORMULAS) {
    if (!text.startsWith(open, at)) continue;
    const end = text.indexOf(close, at + open.length);
    return end < 0 ? 0 : end + close.length;
  }
  if (text[at] !== "$" || /[\s$]/.test(text[at + 1] ?? " ") || /[\w$]/.test(text[at - 1] ?? " ")) return 0;
  const line = text.indexOf("\n", at), end = text.indexOf("$", at + 1);
  return end > 0 && (line < 0 || end < line) && !/\s/.test(text[end - 1]) && !/\d/.test(text[end + 1] ?? " ") ? end + 1 : 0;
}

/** Find what a sign at a place opens, up to the same sign; null where it opens nothing. */
function span(text, at, sign) {
  const begin = at + sign.length, code = sign === "`";
  if (!code && (/\s/.test(text[begin] ?? " ") || /\w/.test(text[at - 1] ?? " "))) return null;
  for (let end = text.indexOf(sign, begin); end >= 0; end = text.indexOf(sign, end + 1)) {
    const closes = code || (!/\s/.test(text[end - 1]) && !/[\w*_]/.test(text[end + sign.length] ?? " "));
    if (end > begin && closes) return {text: text.slice(begin, end), end: end + sign.length};
  }
  return null;
}
