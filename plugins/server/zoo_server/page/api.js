// The server's API: requests with the key, errors as it words them, answers as they come.

export class Failure extends Error {
  /** @param {string} message @param {{status?: number, code?: string, retryAfter?: number, lost?: boolean}} [more] */
  constructor(message, more = {}) {
    super(message);
    Object.assign(this, {status: 0, code: "", retryAfter: 0, lost: false}, more);
  }
}

const UNREACHABLE = "The server cannot be reached.";

/** Ask for JSON or a stream; throws a Failure for everything that is no answer, and AbortError when it was stopped. */
export async function ask(path, {key = "", body, signal} = {}) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST", headers, signal, credentials: "omit", cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    if (!isHeaderText(key)) throw new Failure("The API key has characters that no key can have.", {status: 401});
    throw new Failure(UNREACHABLE, {lost: true});
  }
  if (response.ok) return response;
  throw await failure(response);
}

const isHeaderText = key => /^[\x21-\x7e]*$/.test(key);

async function failure(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch { /* a proxy's own page, or a connection that ended: the status has to do */ }
  const message = typeof error.message === "string" ? error.message : `The server answered ${response.status}.`;
  const after = Number(response.headers.get("Retry-After"));
  return new Failure(sentence(message), {
    status: response.status, code: String(error.code ?? ""), retryAfter: Number.isFinite(after) && after > 0 ? after : 0,
  });
}

/** Begin with a capital and end with a stop, as the rest of the page does. */
function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/**
 * Read the events of a stream: yields each one's JSON, ends at [DONE].
 * Throws a Failure where the server reports one inside the stream, or the connection ends before the answer does.
 */
export async function* events(response, signal) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      let step;
      try {
        step = await reader.read();
      } catch (error) {
        if (signal?.aborted) throw error;
        throw new Failure("The connection was lost before the answer was finished.", {lost: true});
      }
      if (step.done) throw new Failure("The connection ended before the answer did.", {lost: true});
      rest += decoder.decode(step.value, {stream: true});
      let end;
      while ((end = rest.indexOf("\n\n")) >= 0) {
        const data = rest.slice(0, end).split("\n").filter(line => line.startsWith("data:")).map(line => line.slice(5).trimStart()).join("\n");
        rest = rest.slice(end + 2);
        if (data === "[DONE]") return;
        if (!data) continue;
        const event = JSON.parse(data);
        if (event.error) throw new Failure(sentence(String(event.error.message)), {code: String(event.error.code ?? "")});
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
