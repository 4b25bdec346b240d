// What an author began in a field and has not sent yet outlives every redraw, and so does the focus.

export class Unsent {
  #kept = new Map();

  /** The field with what was begun in it; `key` says which one it is, whenever it is made anew. */
  hold(key, field) {
    const what = field.type === "checkbox" ? "checked" : "value";
    if (this.#kept.has(key)) field[what] = this.#kept.get(key);
    field.addEventListener("input", () => this.#kept.set(key, field[what]));
    return field;
  }

  /** The desk has it by now, unless more was begun in the meantime. */
  sent(key, value) { if (this.#kept.get(key) === value) this.#kept.delete(key); }
}

/** Show others in place of all that a host shows; the keyboard stays where it was. */
export function redraw(host, ...children) {
  const focused = host.contains(document.activeElement) ? document.activeElement.id : "";
  host.replaceChildren(...children);
  if (focused) document.getElementById(focused)?.focus({preventScroll: true});
}
