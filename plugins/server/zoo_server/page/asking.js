// One answer on its way: asked for, taken piece by piece, timed, and put into words when it is over.

import {Failure, ask, events} from "./api.js";
import {Splitter} from "./thoughts.js";

/**
 * Ask for an answer and show it as it comes.
 * @returns {Promise<{words: string, failure: Failure | null, stopped: boolean}>} how it ended
 */
export async function receive(turn, body, {key, controller, first}) {
  const clock = {sent: performance.now(), first: 0, last: 0, pieces: 0, head: 0, length: 0, tokens: 0, reason: ""};
  const splitter = turn.chat ? new Splitter() : null;
  let failure = null;
  try {
    const path = turn.chat ? "v1/chat/completions" : "v1/completions";
    const response = await ask(path, {key, body, signal: controller.signal});
    for await (const event of events(response, controller.signal)) take(event, turn, clock, splitter, first);
  } catch (error) {
    if (controller.signal.aborted) clock.reason = "stop button";
    else failure = error instanceof Failure ? error : new Failure(`Something went wrong in this page: ${error.message}`);
  }
  if (splitter) put(turn, ...splitter.rest());
  return {words: summary(clock), failure, stopped: clock.reason === "stop button"};
}

function put(turn, thoughts, words) {
  if (thoughts) turn.think(thoughts);
  if (words) turn.grow(words);
}

function take(event, turn, clock, splitter, first) {
  if (event.usage) clock.tokens = event.usage.completion_tokens;
  const choice = event.choices?.[0];
  if (!choice) return;
  if (choice.finish_reason) clock.reason = choice.finish_reason;
  const delta = choice.delta ?? {}, text = turn.chat ? delta.content : choice.text;
  const calls = delta.tool_calls ?? [], size = [text, delta.reasoning_content, ...calls.map(one => one.function?.arguments ?? one.function?.name)]
    .reduce((sum, one) => sum + (one?.length ?? 0), 0);
  if (!size) return;
  clock.last = performance.now();
  clock.first ||= clock.last;
  clock.pieces++;
  clock.head ||= size;
  clock.length += size;
  if (delta.reasoning_content) turn.think(delta.reasoning_content);
  for (const call of calls) turn.call(call);
  if (text) put(turn, ...(splitter ? splitter.add(text) : ["", text]));
  if (clock.pieces === 1) first();
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
