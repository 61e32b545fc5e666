// A model's words on the page. They are never markup: every piece becomes a text node, and of Markdown only what can be
// built from a few kinds of elements is built. Nothing that they name is loaded; a link waits to be clicked.

import {buildBlock, firstBlock} from "./blocks.js";
import {element} from "./dom.js";

const LONG = 8000; // characters of one block past which it is shown as it is: formatting it again and again would cost

/** Text that grows: blocks that are complete are built once, the last one again with each frame. */
export class Growing {
  /** @param {HTMLElement} place @param {{formatted: boolean, grown?: () => void}} options */
  constructor(place, {formatted, grown = () => {}}) {
    Object.assign(this, {place, formatted, grown, tail: "", open: null, plain: null, frame: 0});
  }

  append(text) {
    this.tail += text;
    if (!this.frame) this.frame = requestAnimationFrame(() => this.flush());
  }

  /** Show everything that came. */
  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (this.formatted) this.build();
    else this.append_plain();
    this.grown();
  }

  append_plain() {
    if (!this.plain) {
      this.plain = document.createTextNode("");
      this.place.append(element("p", {dir: "auto"}, this.plain));
    }
    this.plain.appendData(this.tail);
    this.tail = "";
  }

  build() {
    if (this.plain) { // a block too long to format goes on as it is until it ends
      const end = this.tail.indexOf("\n\n");
      this.plain.appendData(end < 0 ? this.tail : this.tail.slice(0, end));
      this.tail = end < 0 ? "" : this.tail.slice(end + 2);
      if (end < 0) return;
      this.plain = null;
    }
    for (;;) {
      const block = firstBlock(this.tail);
      if (!block) break;
      if (!block.complete && block.source.length > LONG) {
        this.open?.remove();
        this.open = null;
        this.tail = block.source;
        this.append_plain();
        return;
      }
      const built = buildBlock(block);
      if (this.open) this.open.replaceWith(built);
      else this.place.append(built);
      this.open = block.complete ? null : built;
      if (!block.complete) return;
      this.tail = this.tail.slice(block.length);
    }
    this.open?.remove();
    this.open = null;
  }
}
