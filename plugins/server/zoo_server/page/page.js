// The page: which model, what is asked of it, and the one answer that may be on its way.

import {Failure, ask} from "./api.js";
import {receive} from "./asking.js";
import {showCard} from "./card.js";
import {Conversation} from "./conversation.js";
import {element} from "./dom.js";
import * as store from "./store.js";
import {Talks} from "./talks.js";
import {Turn} from "./turns.js";

const $ = id => document.getElementById(id);
const models = new Map(); // id → its card
let key = ""; // in memory only
let conversation = new Conversation();
let turns = []; // those of the conversation's chosen way, on the page
let editing = null; // the turn whose message is asked in other words
let running = null; // {controller, turn}

const chosen = () => models.get($("model").value);

// ── models and their cards ──

async function loadModels() {
  say("");
  try {
    const list = (await (await ask("v1/models", {key})).json()).data;
    const cards = await Promise.all(list.map(async one => (await ask(`zoo/models/${encodeURIComponent(one.id)}`, {key})).json()));
    models.clear();
    for (const card of cards) models.set(card.id, card);
  } catch (error) {
    needsAttention(error);
    return;
  }
  const before = $("model").value;
  $("model").replaceChildren(...[...models.keys()].map(id => element("option", {value: id, text: id})));
  if (models.has(before)) $("model").value = before;
  $("model").disabled = models.size === 0;
  $("key").removeAttribute("aria-invalid");
  choose();
}

/** Say what keeps the page from working, and lead to what mends it. */
function needsAttention(error) {
  const failure = error instanceof Failure ? error : new Failure(String(error.message ?? error));
  const wrongKey = failure.status === 401;
  greet(wrongKey ? (key ? "That key does not open it" : "This server asks for a key") : "The server does not answer as it should",
    wrongKey ? "Type the API key that the server was started with; it is kept in this page's memory only." : failure.message,
    !wrongKey);
  if (wrongKey) askForKey();
}

function askForKey() {
  if (!models.size) $("model").replaceChildren(element("option", {text: "none yet"}));
  openPanel(true);
  $("key").setAttribute("aria-invalid", "true");
  $("key").focus();
  $("key").select();
}

function choose() {
  const card = chosen();
  if (!card) return;
  showCard($("card"), card);
  document.body.classList.toggle("completes", !card.chat);
  $("prompt-label").textContent = card.chat ? "Message" : "Text to go on with";
  $("prompt").placeholder = card.chat ? `Message to ${card.id}` : "Begin a text, and the model goes on with it";
  for (const [name, value] of Object.entries(usual(card))) $(name).placeholder = String(value);
  $("max_tokens").placeholder = card.chat ? "as fits" : String(someTokens(card));
  if (turns.length && conversation.chat !== card.chat) begin();
  const writes = card.task === "generate";
  if (!turns.length) greet(...(!writes
    ? ["No conversation here", `${card.id} ${card.task === "rank" ? "ranks documents at /v1/rerank" : "embeds texts at /v1/embeddings"}; it writes nothing.`]
    : card.chat
    ? ["What is on your mind?", `${card.id} answers in turns, and sees the whole conversation each time.`]
    : ["Begin a text", `${card.id} is a base model: it goes on with what you write instead of answering it.`]));
  $("send").disabled = !writes;
}

function greet(title, text, retry = false) {
  $("hello-title").textContent = title;
  $("hello-text").textContent = text;
  $("hello").querySelector("button")?.remove();
  if (retry) {
    const again = element("button", {type: "button", text: "Try again"});
    again.addEventListener("click", loadModels);
    $("hello").append(again);
  }
  $("hello").hidden = false;
}

// ── asking ──

/** How long a base model goes on where nobody says: the API itself would stop after 16 tokens. */
const someTokens = card => Math.max(1, Math.min(256, Math.floor(card.context_length / 4)));

/** What stands for a field that is left empty: the model's own way of conversing, where its authors state one. */
const usual = card => card?.sampling ?? {temperature: 0.7, top_p: 0.95, top_k: 0, repetition_penalty: 1};

/** Read the sampling fields; null where one is out of range, which the browser then shows. */
function sampling() {
  if (!$("sampling").checkValidity()) {
    openPanel(true);
    $("sampling").reportValidity();
    return null;
  }
  const value = {...usual(chosen())};
  for (const name of ["temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "seed"]) {
    if ($(name).value !== "") value[name] = $(name).valueAsNumber;
  }
  const stops = $("stops").value.split("\n").filter(line => line !== "");
  if (stops.length) value.stop = stops;
  return value;
}

function send() {
  const card = chosen(), prompt = $("prompt").value;
  if (running || !card) return;
  if (!prompt.trim()) {
    $("prompt").focus();
    return;
  }
  if (!sampling()) return;
  const parent = editing ? editing.kept.parent : conversation.turns.indexOf(turns.at(-1)?.kept);
  editOff();
  conversation.chat = card.chat;
  conversation.system = $("system").value;
  const kept = conversation.add(parent, prompt, card.id);
  $("prompt").value = "";
  fit();
  render();
  answer(turns.find(one => one.kept === kept));
}

/** Show the conversation's chosen way; turns that are shown already stay as they are. */
function render() {
  const known = new Map(turns.map(one => [one.kept, one]));
  const shown = conversation.path();
  for (const one of turns) if (!shown.includes(one.kept)) one.remove();
  turns = shown.map(kept => known.get(kept) ?? new Turn(kept, conversation.chat, {again: answer, goOn, edit, turn: show, grown: follow}));
  $("hello").hidden = turns.length > 0;
  turns.forEach((one, at) => {
    if (at < turns.length - 1) one.retire();
    $("talk").append(one.question, one.reply);
    one.offer(conversation.beside(one.kept));
  });
  talks.show(conversation.id);
}

/** Go to other words of the same message. */
function show(kept) {
  if (running) return;
  conversation.choose(kept);
  rememberNow();
  render();
}

/** Ask a message again in other words: what came of it stays, beside the new one. */
function edit(turn) {
  if (running) return;
  editing = turn;
  $("prompt").value = turn.kept.prompt;
  $("prompt-label").textContent = "In other words";
  $("cancel").hidden = false;
  fit();
  $("prompt").focus();
}

function editOff() {
  if (!editing) return;
  editing = null;
  $("cancel").hidden = true;
  choose();
}

function rememberNow() {
  const problem = store.keep(conversation);
  if (problem) say(problem);
}

/** Open a conversation that was kept. */
function open(kept) {
  if (running) return;
  editOff();
  for (const turn of turns) turn.remove();
  turns = [];
  conversation = kept;
  $("system").value = kept.system;
  const last = kept.turns.at(-1)?.model;
  const fits = id => models.get(id)?.chat === kept.chat;
  const model = fits(last) ? last : fits($("model").value) ? $("model").value : [...models.keys()].find(fits);
  if (model) $("model").value = model;
  render();
  choose();
  scrollToEnd();
}

/** The conversation that a turn ends: what has no answer was not heard, and is left out. */
function messages(turn) {
  const said = [];
  const system = $("system").value.trim();
  if (system) said.push({role: "system", content: system});
  for (const one of turns) {
    if (one !== turn && !one.kept.answer) continue;
    said.push({role: "user", content: one.kept.prompt});
    if (one === turn) break;
    said.push({role: "assistant", content: one.kept.answer});
  }
  return said;
}

async function answer(turn) {
  const card = chosen(), asked = sampling();
  if (running || !asked) return;
  const controller = new AbortController();
  running = {controller, turn};
  busy(true);
  turn.start(card.id);
  scrollToEnd();
  $("prompt").focus();
  say("Waiting for the answer");
  const body = {model: card.id, stream: true, stream_options: {include_usage: true}, ...asked,
    ...(turn.chat ? {messages: messages(turn)} : {prompt: turn.kept.prompt, max_tokens: asked.max_tokens ?? someTokens(card)})};
  const {words, failure, stopped} = await receive(turn, body, {key, controller, first: () => say("Answering")});
  running = null;
  turn.finish(words, failure);
  turn.offer(conversation.beside(turn.kept));
  busy(false);
  say(failure ? "" : stopped ? "Stopped" : "Done");
  if (conversation.turns.includes(turn.kept)) rememberNow();
  talks.show(conversation.id);
  if (failure?.status === 401) askForKey();
}

function stop() {
  running?.controller.abort();
}

function goOn(text) {
  $("prompt").value = text;
  fit();
  $("prompt").focus();
  $("prompt").setSelectionRange(text.length, text.length);
  $("prompt").scrollTop = $("prompt").scrollHeight;
}

function begin() {
  stop();
  editOff();
  for (const turn of turns) turn.remove();
  turns = [];
  conversation = new Conversation();
  say("");
  choose();
  talks.show("");
  $("prompt").focus();
}

const talks = new Talks($("talks"), {
  open: kept => {
    open(kept);
    openPanel(false);
  },
  gone: id => { if (id === conversation.id) begin(); },
  said: say,
});

// ── the page itself ──

function busy(is) {
  $("send").hidden = is;
  $("stop").hidden = !is;
  $("model").disabled = is || models.size === 0;
  document.body.classList.toggle("busy", is);
}

function say(text) {
  $("status").textContent = text;
}

const talk = $("talk");
let following = true;
talk.addEventListener("scroll", () => { following = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60; }, {passive: true});

function follow() {
  if (following) talk.scrollTop = talk.scrollHeight;
}

new ResizeObserver(follow).observe(talk);

function scrollToEnd() {
  following = true;
  follow();
}

/** Let the message box grow with what is typed, up to a third of the window. */
function fit() {
  const box = $("prompt");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, innerHeight / 3)}px`;
}

function openPanel(open) {
  document.body.classList.toggle("panel-open", open);
  document.querySelector("main").inert = open && !wide.matches;
  $("toggle").setAttribute("aria-expanded", String(open || wide.matches));
}
const wide = matchMedia("(min-width: 60rem)");

$("composer").addEventListener("submit", event => { event.preventDefault(); send(); });
$("stop").addEventListener("click", () => { stop(); $("prompt").focus(); });
$("fresh").addEventListener("click", begin);
$("model").addEventListener("change", choose);
$("prompt").addEventListener("input", fit);
$("prompt").addEventListener("keydown", event => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", event => {
  if (event.key !== "Escape") return;
  if (running) stop();
  else if (editing) $("cancel").click();
  else if (!wide.matches && document.body.classList.contains("panel-open")) {
    openPanel(false);
    $("toggle").focus();
  }
});
$("toggle").addEventListener("click", () => {
  const open = !document.body.classList.contains("panel-open");
  openPanel(open);
  if (open) [...$("panel").querySelectorAll("button, summary, input, textarea, a")].find(one => one.checkVisibility())?.focus();
});
$("done").addEventListener("click", () => {
  openPanel(false);
  $("toggle").focus();
});
$("cancel").addEventListener("click", () => {
  $("prompt").value = "";
  editOff();
  fit();
  $("prompt").focus();
});
$("export").addEventListener("click", () => talks.download());
$("import").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  if (file) await talks.take(file);
  $("file").value = "";
});
$("sampling").addEventListener("submit", event => event.preventDefault());
$("key-form").addEventListener("submit", event => {
  event.preventDefault();
  key = $("key").value.trim();
  models.clear();
  loadModels().then(() => {
    if (!models.size) return;
    openPanel(false);
    $("prompt").focus();
  });
});

talks.show("");
loadModels();
