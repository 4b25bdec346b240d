// The story's text: completion by the schema, findings under the words, one history with the pages.
import * as cm from "./codemirror.js";

const remote = cm.Annotation.define();

const look = cm.EditorView.theme({
  "&": {color: "var(--ink)", backgroundColor: "var(--pane)"},
  ".cm-content": {caretColor: "var(--accent)", fontFamily: "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"},
  ".cm-cursor": {borderLeftColor: "var(--accent)"},
  ".cm-gutters": {backgroundColor: "var(--pane)", color: "var(--soft)", border: "none"},
  ".cm-activeLine, .cm-activeLineGutter": {backgroundColor: "color-mix(in srgb, var(--mark) 45%, transparent)"},
  ".cm-selectionBackground, &.cm-focused .cm-selectionBackground": {backgroundColor: "color-mix(in srgb, var(--accent) 30%, transparent) !important"},
  ".cm-tooltip": {backgroundColor: "var(--pane)", color: "var(--ink)", border: "1px solid var(--line)"},
  ".cm-tooltip-autocomplete ul li[aria-selected]": {backgroundColor: "var(--accent)", color: "var(--on-accent)"},
});

const colours = cm.HighlightStyle.define([
  {tag: [cm.tags.propertyName, cm.tags.definition(cm.tags.propertyName)], color: "var(--accent)"},
  {tag: cm.tags.comment, color: "var(--soft)", fontStyle: "italic"},
  {tag: [cm.tags.string, cm.tags.special(cm.tags.string)], color: "var(--good)"},
  {tag: [cm.tags.meta, cm.tags.labelName], color: "var(--warn)"},
]);

export class Editor {
  /** on: {typed(text), undo(), redo()} */
  constructor(host, text, words, on, {write, nonce}) {
    this.words = words;
    this.ends = endsOf(text);
    this.view = new cm.EditorView({
      parent: host,
      doc: text,
      extensions: [
        cm.EditorView.cspNonce.of(nonce),
        cm.lineNumbers(), cm.highlightActiveLine(), cm.highlightActiveLineGutter(), cm.drawSelection(),
        cm.indentOnInput(), cm.bracketMatching(), cm.lintGutter(), cm.yaml(), look, cm.syntaxHighlighting(colours),
        cm.EditorState.readOnly.of(!write), cm.EditorView.lineWrapping,
        cm.EditorView.contentAttributes.of({"aria-label": "The story’s text"}),
        cm.autocompletion({override: [(context) => this.#complete(context)]}),
        cm.keymap.of([
          {key: "Mod-z", run: () => (on.undo(), true)},
          {key: "Mod-Shift-z", run: () => (on.redo(), true)},
          {key: "Mod-y", run: () => (on.redo(), true)},
          ...cm.completionKeymap, ...cm.lintKeymap, ...cm.defaultKeymap, cm.indentWithTab,
        ]),
        cm.EditorView.updateListener.of((update) => {
          const own = update.transactions.some((each) => each.docChanged && !each.annotation(remote));
          if (own) on.typed(update.state.doc.toString().replaceAll("\n", this.ends));
        }),
      ],
    });
  }

  get text() { return this.view.state.doc.toString(); }

  /** Take over a text from the file, changing only what differs, so that the cursor stays. */
  take(text) {
    this.ends = endsOf(text);
    text = text.replaceAll("\r\n", "\n");
    const old = this.text;
    if (old === text) return;
    let start = 0;
    while (start < old.length && start < text.length && old[start] === text[start]) start++;
    let end = 0;
    while (end < old.length - start && end < text.length - start && old.at(-1 - end) === text.at(-1 - end)) end++;
    this.view.dispatch({changes: {from: start, to: old.length - end, insert: text.slice(start, text.length - end)}, annotations: remote.of(true)});
  }

  show(findings) {
    const doc = this.view.state.doc;
    const marks = findings.filter((each) => each.line <= doc.lines).map((each) => {
      const line = doc.line(each.line), from = Math.min(line.to, line.from + each.column - 1);
      const word = /^[^\s,:{}[\]#][^,:{}[\]#\n]*/.exec(doc.sliceString(from, line.to));
      const to = Math.min(line.to, from + Math.max(1, word ? word[0].trimEnd().length : 1));
      return {from, to, severity: each.severity, message: `${each.code} ${each.message}${each.hint ? ` (${each.hint})` : ""}`};
    });
    this.view.dispatch(cm.setDiagnostics(this.view.state, marks));
  }

  go(line, column = 1) {
    const doc = this.view.state.doc, at = doc.line(Math.min(line, doc.lines));
    const place = Math.min(at.to, at.from + column - 1);
    this.view.dispatch({selection: {anchor: place}, effects: cm.EditorView.scrollIntoView(place, {y: "center"})});
    this.view.focus();
  }

  /** Show where a panel is written. */
  find(panel) {
    const lines = this.text.split("\n");
    const index = lines.findIndex((line) => new RegExp(`id:\\s*["']?${panel.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}\\b`).test(line));
    if (index >= 0) this.view.dispatch({effects: cm.EditorView.scrollIntoView(this.view.state.doc.line(index + 1).from, {y: "center"})});
  }

  #complete(context) {
    const line = context.state.doc.lineAt(context.pos), before = line.text.slice(0, context.pos - line.from);
    const word = /[\w-]*$/.exec(before)[0];
    if (!context.explicit && !word) return null;
    const {path, key} = placeOf(context.state.doc, line.number, before);
    const schema = descend(this.words.schema, this.words.schema, path);
    const options = key ? this.#values(key, path, schema) : keysOf(this.words.schema, schema);
    return options.length ? {from: context.pos - word.length, options, validFor: /^[\w-]*$/} : null;
  }

  #values(key, path, schema) {
    const named = {concept: "concepts", who: "concepts", scene: "concepts", layout: "layouts"}[key];
    const names = named === "layouts" ? this.words.layouts : this.words.concepts
      .filter((each) => key !== "scene" || each.kind === "scene").map((each) => each.name);
    if (named) return names.map((label) => ({label, type: "variable"}));
    const own = descend(this.words.schema, schema, [key]);
    const values = valuesOf(this.words.schema, own);
    return values.map((label) => ({label: String(label), type: "enum"}));
  }
}

/** How the file ends its lines; CodeMirror knows line feeds alone. */
function endsOf(text) {
  return text.includes("\r\n") ? "\r\n" : "\n";
}

/** The keys above the cursor, and the key whose value is being written, if one is. */
function placeOf(doc, number, before) {
  const path = [];
  const flow = before.slice(before.lastIndexOf("{") + 1);
  const inFlow = before.includes("{") && !before.slice(before.lastIndexOf("{")).includes("}");
  const last = /(?:^|[,\s-])([\w-]+):\s*[\w-]*$/.exec(inFlow ? flow : before);
  let indent = /^\s*(?:- )*/.exec(before)[0].length;
  if (inFlow) {
    const owner = /([\w-]+):\s*\{[^{}]*$/.exec(before);
    if (owner) path.unshift(owner[1]);
  }
  for (let n = number - (inFlow ? 0 : 1); n >= 1 && indent >= 0; n--) {
    const text = n === number ? before.slice(0, before.lastIndexOf("{")) : doc.line(n).text;
    const found = /^(\s*(?:- )*)([\w-]+):/.exec(text);
    if (!found || text.trimStart().startsWith("#")) continue;
    if (found[1].length < indent || (n === number && inFlow)) {
      if (n !== number || path[0] !== found[2]) path.unshift(found[2]);
      indent = found[1].length;
      if (indent === 0) break;
    }
  }
  return {path, key: last ? last[1] : null};
}

function resolved(root, schema) {
  while (schema?.$ref) schema = schema.$ref.split("/").slice(1).reduce((at, step) => at?.[step], root);
  return schema;
}

function choices(root, schema) {
  const own = resolved(root, schema);
  if (!own) return [];
  return [own, ...(own.anyOf ?? own.oneOf ?? own.allOf ?? []).flatMap((each) => choices(root, each)), ...(own.items ? choices(root, own.items) : [])];
}

function descend(root, schema, path) {
  let at = schema;
  for (const step of path) {
    const next = choices(root, at).map((each) => each.properties?.[step] ?? (typeof each.additionalProperties === "object" ? each.additionalProperties : Object.values(each.patternProperties ?? {})[0])).find(Boolean);
    if (!next) return at;
    at = next;
  }
  return at;
}

function keysOf(root, schema) {
  const found = new Map();
  for (const each of choices(root, schema)) for (const [label, about] of Object.entries(each.properties ?? {})) {
    found.set(label, {label, type: "property", apply: `${label}: `, info: resolved(root, about)?.description ?? about.description});
  }
  return [...found.values()];
}

function valuesOf(root, schema) {
  return [...new Set(choices(root, schema).flatMap((each) => [...(each.enum ?? []), ...(each.const ? [each.const] : []), ...(each.examples ?? []), ...(each.type === "boolean" ? ["true", "false"] : [])]))];
}
