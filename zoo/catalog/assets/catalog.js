// The table of models: search, filters and sorting over the rows that the page already holds.
"use strict";

const table = document.getElementById("models");
const body = table.tBodies[0];
const form = document.getElementById("filters");
const found = document.getElementById("found");
const search = document.getElementById("search");
const selects = { family: "family", attention: "attention", use: "use" };
const defaultPrecision = table.dataset.precision;

// What filtering looks at is read once; after that a keystroke touches nothing but the rows that change.
const rows = Array.from(body.rows, (row) => ({
  row,
  text: (row.dataset.text + " " + row.textContent).toLowerCase().replace(/\s+/g, " "),
  precisions: row.dataset.precisions.split(" "),
}));
let order = rows;
let sorted = { column: -1, descending: false };
let shownPrecision = defaultPrecision;

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < 4) {
    bytes /= 1000;
    unit += 1;
  }
  return bytes.toFixed(unit < 2 || (bytes >= 100 && unit < 4) ? 0 : 1) + " " + units[unit];
}

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const precision = document.getElementById("precision").value;
  let count = 0;
  for (const { row, text, precisions } of rows) {
    let match = words.every((word) => text.includes(word)) && (!precision || precisions.includes(precision));
    for (const name in selects) {
      const wanted = document.getElementById(name).value;
      match = match && (!wanted || row.dataset[selects[name]] === wanted);
    }
    if (row.hidden === match) row.hidden = !match;
    count += match ? 1 : 0;
  }
  found.textContent = count === rows.length ? `${count} models` : `${count} of ${rows.length} models match`;
  showMemory(precision || defaultPrecision);
}

function showMemory(precision) {
  if (precision === shownPrecision) return;
  shownPrecision = precision;
  for (const label of table.querySelectorAll("thead .precision")) label.textContent = precision;
  for (const { row } of rows) {
    for (const cell of row.querySelectorAll("td[data-memory]")) {
      const bytes = cell.getAttribute("data-" + precision);
      cell.textContent = bytes === null ? "–" : size(Number(bytes));
    }
  }
  if (sorted.column >= 0 && table.tHead.rows[0].cells[sorted.column].hasAttribute("data-memory")) arrange();
}

function key(row, column) {
  const cell = row.cells[column];
  if (cell.hasAttribute("data-memory")) return cell.getAttribute("data-" + shownPrecision) ?? "";
  return cell.dataset.sort ?? (cell.textContent === "–" ? "" : cell.textContent);
}

function arrange() {
  const { column, descending } = sorted;
  const numeric = table.tHead.rows[0].cells[column].classList.contains("num");
  const keyed = rows.map((one) => [one, key(one.row, column)]);
  keyed.sort(([, a], [, b]) => {
    if ((a === "") !== (b === "")) return a === "" ? 1 : -1; // what is unknown comes last, either way
    const difference = numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
    return descending ? -difference : difference;
  });
  order = keyed.map(([one]) => one);
  const sheet = document.createDocumentFragment();
  for (const { row } of order) sheet.append(row);
  body.append(sheet);
}

function sortBy(column) {
  const descending = sorted.column === column && !sorted.descending;
  sorted = { column, descending };
  Array.from(table.tHead.rows[0].cells, (head, index) => {
    if (index === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
  arrange();
}

Array.from(table.tHead.rows[0].cells, (head, index) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  button.addEventListener("click", () => sortBy(index));
  head.append(button);
});

form.hidden = false;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter));
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
  }
});
filter(); // a browser may bring back what was typed before
