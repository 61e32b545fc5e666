// The list of conversations: open, rename, delete, export and import.

import {button, element} from "./dom.js";
import * as store from "./store.js";

export class Talks {
  /** @param {HTMLElement} place @param {{open: (one) => void, gone: (id: string) => void, said: (text: string) => void}} can */
  constructor(place, can) {
    Object.assign(this, {place, can, current: ""});
    store.watch(() => this.show(this.current));
  }

  /** Show what is kept, the newest first, and which one is open. */
  show(current) {
    this.current = current;
    const kept = store.load();
    this.place.replaceChildren(...(kept.length ? kept.map(one => this.row(one)) : [element("li", {class: "soft", text: "None is kept yet."})]));
  }

  row(one) {
    const name = element("button", {type: "button", class: "talk", dir: "auto", text: one.title || "Untitled",
      "aria-current": one.id === this.current ? "true" : null});
    name.addEventListener("click", () => this.can.open(one));
    const rename = button("Rename", () => this.rename(one, row));
    const remove = button("Delete", () => {
      if (remove.textContent === "Delete") {
        remove.textContent = "Really?";
        setTimeout(() => { remove.textContent = "Delete"; }, 3000);
        return;
      }
      store.remove(one.id);
      this.can.gone(one.id);
      this.show(this.current);
    });
    const row = element("li", {}, name, rename, remove);
    return row;
  }

  rename(one, row) {
    const field = element("input", {type: "text", maxlength: "200", "aria-label": "Title", dir: "auto"});
    field.value = one.title;
    const done = keep => {
      field.onblur = null;
      if (keep && field.value.trim()) {
        one.title = field.value.trim();
        this.can.said(store.keep(one));
        if (one.id === this.current) this.can.open(one);
      }
      this.show(this.current);
    };
    field.addEventListener("keydown", event => {
      if (event.key === "Enter") done(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        done(false);
      }
    });
    field.onblur = () => done(true);
    row.replaceChildren(field);
    field.focus();
    field.select();
  }

  download() {
    const link = element("a", {download: "conversations.json", href: URL.createObjectURL(new Blob([store.exported()], {type: "application/json"}))});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  async take(file) {
    try {
      const count = await store.imported(file);
      this.can.said(`${count} ${count === 1 ? "conversation" : "conversations"} imported`);
    } catch (error) {
      this.can.said(`That file cannot be imported: ${error.message}`);
    }
    this.show(this.current);
  }
}
