// The page: which model, what is asked of it, and the one answer that may be on its way.

import {Failure, ask, events} from "./api.js";
import {showCard} from "./card.js";
import {element} from "./text.js";
import {Turn} from "./turns.js";

const $ = id => document.getElementById(id);
const models = new Map(); // id → its card
let key = ""; // in memory only
let turns = [];
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
  if (turns.length && turns[0].chat !== card.chat) begin();
  if (!turns.length) greet(...(card.chat
    ? ["What is on your mind?", `${card.id} answers in turns, and sees the whole conversation each time.`]
    : ["Begin a text", `${card.id} is a base model: it goes on with what you write instead of answering it.`]));
  $("send").disabled = false;
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
  turns.at(-1)?.retire();
  const turn = new Turn({prompt, chat: card.chat, model: card.id}, {again: answer, goOn, grown: follow});
  turns.push(turn);
  $("hello").hidden = true;
  $("talk").append(turn.question, turn.reply);
  $("prompt").value = "";
  fit();
  answer(turn);
}

/** The conversation that a turn ends: what has no answer was not heard, and is left out. */
function messages(turn) {
  const said = [];
  const system = $("system").value.trim();
  if (system) said.push({role: "system", content: system});
  for (const one of turns) {
    if (one !== turn && !one.answer) continue;
    said.push({role: "user", content: one.prompt});
    if (one === turn) break;
    said.push({role: "assistant", content: one.answer});
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
    ...(turn.chat ? {messages: messages(turn)} : {prompt: turn.prompt, max_tokens: asked.max_tokens ?? someTokens(card)})};
  const clock = {sent: performance.now(), first: 0, last: 0, pieces: 0, head: 0, length: 0, tokens: 0, reason: ""};
  let failure = null;
  try {
    const path = turn.chat ? "v1/chat/completions" : "v1/completions";
    const response = await ask(path, {key, body, signal: controller.signal});
    for await (const event of events(response, controller.signal)) take(event, turn, clock);
  } catch (error) {
    if (controller.signal.aborted) clock.reason = "stop button";
    else failure = error instanceof Failure ? error : new Failure(`Something went wrong in this page: ${error.message}`);
  }
  running = null;
  turn.finish(summary(clock), failure);
  busy(false);
  say(failure ? "" : clock.reason === "stop button" ? "Stopped" : "Done");
  if (failure?.status === 401) askForKey();
}

function take(event, turn, clock) {
  if (event.usage) clock.tokens = event.usage.completion_tokens;
  const choice = event.choices?.[0];
  if (!choice) return;
  if (choice.finish_reason) clock.reason = choice.finish_reason;
  const text = turn.chat ? choice.delta?.content : choice.text;
  if (!text) return;
  clock.last = performance.now();
  clock.first ||= clock.last;
  clock.pieces++;
  clock.head ||= text.length;
  clock.length += text.length;
  turn.grow(text);
  if (clock.pieces === 1) say("Answering");
  const rate = speed(clock, clock.pieces);
  if (rate) turn.pace(`about ${rate} tokens/s`);
}

/**
 * Tokens a second after the first piece; nothing where there is too little to count. A piece may hold several tokens, and
 * nobody says how many the first one held: its share of the text has to do.
 */
function speed(clock, tokens) {
  const seconds = (clock.last - clock.first) / 1000;
  return clock.pieces > 1 && seconds > 0.05 ? (tokens * (1 - clock.head / clock.length) / seconds).toFixed(1) : "";
}

function summary(clock) {
  if (!clock.pieces) return {"stop button": "stopped before the first token", stop: "an empty answer", length: "no room for a token"}[clock.reason] ?? "";
  const exact = clock.tokens > 0, tokens = clock.tokens || clock.pieces, rate = speed(clock, tokens);
  const parts = [`${exact ? "" : "about "}${tokens} ${tokens === 1 ? "token" : "tokens"}`];
  if (rate) parts.push(`${rate} tokens/s`);
  parts.push(`first after ${((clock.first - clock.sent) / 1000).toFixed(2)} s`);
  if (clock.reason === "length") parts.push("cut at the longest answer");
  if (clock.reason === "stop button") parts.push("stopped by you");
  return parts.join(", ");
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
  for (const turn of turns) turn.remove();
  turns = [];
  say("");
  choose();
  $("prompt").focus();
}

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
  else if (!wide.matches && document.body.classList.contains("panel-open")) {
    openPanel(false);
    $("toggle").focus();
  }
});
$("toggle").addEventListener("click", () => {
  const open = !document.body.classList.contains("panel-open");
  openPanel(open);
  if (open) $("panel").querySelector("summary, input, textarea, a")?.focus();
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

loadModels();
