// Conversations kept in this browser, and nowhere else; the API key is never among them.

import {Conversation} from "./conversation.js";

const KEY = `zoo.conversations ${new URL(".", document.baseURI).pathname}`;
const MOST = 20_000_000; // characters of a file that is imported

/** Read what is kept; what cannot be read is as good as nothing. */
export function load() {
  try {
    return parse(localStorage.getItem(KEY) ?? "[]");
  } catch {
    return [];
  }
}

function parse(text) {
  const kept = JSON.parse(text);
  const list = Array.isArray(kept) ? kept : kept?.conversations;
  if (!Array.isArray(list)) throw new Error("no conversations are in it");
  return list.filter(one => one && typeof one === "object").map(one => new Conversation(one)).sort((a, b) => b.changed - a.changed);
}

/** Keep one, newer than all others; returns what keeps it from being kept, in words. */
export function keep(conversation) {
  conversation.changed = Date.now();
  return write([conversation, ...load().filter(one => one.id !== conversation.id)]);
}

export function remove(id) {
  return write(load().filter(one => one.id !== id));
}

function write(list) {
  try {
    localStorage.setItem(KEY, JSON.stringify(list.map(one => one.plain())));
    return "";
  } catch {
    return "This browser keeps no more conversations: export and delete some, or allow this page to keep data.";
  }
}

/** Write all of them as a file's text. */
export function exported() {
  return JSON.stringify({format: "zoo.conversations", version: 1, conversations: load().map(one => one.plain())}, null, 1);
}

/** Take conversations from a file; one that is here already stays, and the other comes beside it. Returns how many came. */
export async function imported(file) {
  if (file.size > MOST) throw new Error("the file is too large");
  const come = parse(await file.text()), here = load();
  for (const one of come) if (here.some(other => other.id === one.id)) one.id = new Conversation().id;
  const problem = write([...come, ...here]);
  if (problem) throw new Error(problem);
  return come.length;
}

/** Call when another tab changes what is kept. */
export function watch(act) {
  addEventListener("storage", event => { if (event.key === KEY) act(); });
}
