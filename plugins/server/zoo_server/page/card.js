// The model's card: what was built, from what, and what was measured of it.

import {element} from "./dom.js";

const number = new Intl.NumberFormat("en");
const day = text => new Intl.DateTimeFormat("en", {dateStyle: "medium", timeZone: "UTC"}).format(new Date(text));

/** Write a size in decimal units, as the rest of the project does. */
function bytes(size) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (size >= 1000 && step < units.length - 1) { size /= 1000; step++; }
  return `${step < 2 || size >= 100 ? size.toFixed(0) : size.toFixed(1)} ${units[step]}`;
}

function count(value) {
  for (const [limit, unit] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) if (value >= limit) return `${(value / limit).toFixed(1)}${unit}`;
  return String(value);
}

const KINDS = {embed: "embeds texts (/v1/embeddings)", rank: "ranks documents (/v1/rerank)"};

/** Replace what a place shows by a card. */
export function showCard(place, card) {
  const {build, licence} = card;
  place.replaceChildren(
    element("p", {class: "name", text: card.id}),
    facts([
      ["Verified", badge(card.verification)],
      ["Accuracy", measured(card.accuracy)],
      ["Speed", measured(card.speed ? [card.speed] : [])],
      ["Licence", licenceLine(licence)],
    ]),
    ...(licence.note ? [element("p", {class: "soft", text: licence.note})] : []),
    facts([
      ["Family", card.family ?? "none declared"],
      ["Kind", KINDS[card.task] ?? (card.chat ? "answers in turns (chat template)" : "goes on with a text (no chat template)")],
      ["Weights", `${count(card.parameters)} (${number.format(card.parameters)})`],
      ["Attention", card.attention],
      ["Context", `${number.format(card.context_length)} tokens`],
      ...(card.sampling ? [["Sampling", Object.entries(card.sampling).map(([name, value]) => `${name} ${value}`).join(", ")]] : []),
      ["Precision", `${build.precision}, ${build.bits_per_weight} bits a weight, ${bytes(build.bytes)}`],
    ]),
    details("Recipe", facts([
      ["Hash", element("code", {text: build.recipe_hash.slice(0, 12), title: build.recipe_hash})],
      ["From", build.hub ? `${build.hub}${build.revision ? ` @ ${build.revision.slice(0, 12)}` : ""}` : "a folder, or weights that a plugin ships"],
      ["Quantizer", build.quantizer],
      ["Target", build.target],
    ]), details("Every value", element("pre", {tabindex: "0"}, element("code", {text: JSON.stringify(card.recipe, null, 1)})))),
    ...checks(card.verification),
  );
}

function badge(verification) {
  if (!verification) return element("span", {class: "badge care", text: "not yet"});
  const {passed, quick, measured_at: at} = verification;
  const word = passed ? (quick ? "quick check passed" : "passed") : "failed";
  return [element("span", {class: `badge ${passed ? "good" : "bad"}`, text: word}), ` ${day(at)}`];
}

function measured(list) {
  if (!list.length) return element("span", {class: "soft", text: "not measured here"});
  return list.map(({value, name, note, measured_at: at, machine}) => element("div", {}, `${value} `,
    element("span", {class: "soft", text: [name, note, day(at), machine].filter(Boolean).join(", ")})));
}

const USES = {commercial: ["good", "commercial use"], "non-commercial": ["bad", "no commercial use"]};

function licenceLine({id, name, url, use, sentence}) {
  const [tone, words] = USES[use] ?? ["care", "use unstated"];
  const link = url ? element("a", {href: url, rel: "noopener noreferrer", target: "_blank", text: name ?? id}) : name ?? id;
  return [link, " ", element("span", {class: `badge ${tone}`, text: words, title: sentence})];
}

function checks(verification) {
  if (!verification?.checks.length) return [];
  const head = ["Check", "Measured", "Limit"].map((text, index) => element("th", {scope: "col", text, class: index ? "num" : null}));
  const rows = verification.checks.map(({name, value, limit}) => element("tr", {},
    element("th", {scope: "row", text: name}), element("td", {class: "num", text: value}), element("td", {class: "num", text: limit})));
  return [details("What was verified", element("table", {},
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)))];
}

function details(title, ...inside) {
  return element("details", {}, element("summary", {text: title}), ...inside);
}

function facts(pairs) {
  return element("dl", {}, ...pairs.map(([name, value]) =>
    element("div", {}, element("dt", {text: name}), element("dd", {}, ...[value].flat()))));
}
