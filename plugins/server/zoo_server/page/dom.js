// Elements from text: nothing here ever reads markup.

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

/** Make a small button. */
export function button(text, act, name = "", attributes = {}) {
  const made = element("button", {type: "button", class: `small ${name}`.trim(), text, ...attributes});
  made.addEventListener("click", act);
  return made;
}

/** Copy a text, or select what shows it where there is no clipboard: an address that is not this machine's has none without TLS. */
export async function copy(text, place) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(place);
    return false;
  }
}
