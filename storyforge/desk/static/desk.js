// The desk: brings pages, text, pictures and news together.
import {get, make, post} from "./api.js";
import {ConceptsView} from "./concepts.js";
import {Editor} from "./editor.js";
import {Pages} from "./pages.js";
import {PanelView} from "./panel.js";
import {QueueView} from "./queue.js";

const at = (id) => document.getElementById(id);
const write = document.body.dataset.write === "1";
const LAYERS = ["art", "regions", "figures", "words", "balloons", "guides", "notes"];

let base = "", version = 0, pending = null, sending = false, told = {};

function tell(words, bad = false) {
  at("state").textContent = words;
  at("state").classList.toggle("bad", bad);
}

function show(book) {
  if ((book.version ?? 0) < version) return;
  version = book.version;
  told = book;
  if (book.pages) pages.show(book);
  panel.follow(about);
  at("title").textContent = book.title || "Untitled";
  document.title = `${book.title || "Untitled"} – storyforge desk`;
  at("undo").disabled = !write || !book.undo;
  at("redo").disabled = !write || !book.redo;
  if (book.source !== undefined) { base = book.text; editor.take(book.source); }
  findings(book.findings);
  if (book.trouble) tell(book.trouble, true);
  soon();
}

function findings(list) {
  const own = list.filter((each) => each.file === at("editor").dataset.name);
  editor?.show(own);
  at("findings").replaceChildren(...list.slice(0, 60).map((each) => make("li", {},
    make("button", {type: "button", class: each.severity, onclick: () => own.includes(each) && editor.go(each.line, each.column)},
      `${each.file}:${each.line} ${each.code} ${each.message}`))));
  if (!list.length) at("findings").replaceChildren(make("li", {class: "good"}, "no mistakes"));
}

let timer;
/** What takes longer is asked for when the author rests. */
function soon() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    try { findings((await get("check")).findings); } catch (error) { tell(error.message, true); }
  }, 500);
}

async function ask(path, content) {
  try {
    await sent();
    show(await post(path, {...content, have: pages.have(), source: true}));
    tell("");
  } catch (error) {
    tell(error.message, true);
    show(await post("book", {have: pages.have()}));
  }
}

const settled = [];
/** When what was typed is with the desk. */
function sent() {
  return sending || pending !== null ? new Promise((resolve) => settled.push(resolve)) : Promise.resolve();
}

async function typed(text) {
  pending = text;
  if (sending) return;
  sending = true;
  while (pending !== null) {
    const now = pending;
    pending = null;
    try {
      const book = await post("type", {text: now, base, have: pages.have()});
      base = book.text;
      show(book);
      if (!book.trouble) tell("");
    } catch (error) {
      if (error.status === 409) await conflict(now, error.told);
      else tell(error.message || "the desk does not answer; what you typed is still here", true);
      if (error.status === undefined) { pending ??= now; await new Promise((resolve) => setTimeout(resolve, 700)); }
    }
  }
  sending = false;
  settled.splice(0).forEach((resolve) => resolve());
}

/** Two texts at once: the author says which; the other stays in the history. */
function conflict(mine, theirs) {
  return new Promise((resolve) => {
    const end = (work) => () => { at("bar").hidden = true; work(); resolve(); };
    at("bar").replaceChildren(make("span", {}, "The story was changed elsewhere while you typed. Both texts are kept in the history."),
      make("button", {type: "button", onclick: end(() => { pending = null; base = theirs.text; editor.take(theirs.source); })}, "Take the file’s text"),
      make("button", {type: "button", onclick: end(() => { base = theirs.text; pending ??= mine; })}, "Keep mine"));
    at("bar").hidden = false;
  });
}

async function news() {
  if (sending || pending !== null) return;
  const book = await post("book", {have: pages.have()});
  if (book.text !== base) {
    const file = await get("text");
    base = file.text;
    editor.take(file.source);
  }
  show(book);
}

function about(name) {
  return told.pages?.flatMap((page) => page.panels).find((each) => each.panel === name);
}

async function choose(name) {
  pages.mark(name);
  tab("panel");
  editor.find(name);
  await panel.open(name, about(name));
}

function draw(name) {
  post("draw", {panels: [name], takes: 1}).then(() => tell(`${name} will be drawn`)).catch((error) => tell(error.message, true));
}

function tab(name) {
  for (const button of at("tabs").children) {
    const chosen = button.id === `tab-${name}`;
    button.setAttribute("aria-selected", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
    at(button.getAttribute("aria-controls")).hidden = !chosen;
  }
  narrow(false);
  if (name === "concepts") get("words").then((words) => concepts.show(words.concepts)).catch((error) => tell(error.message, true));
}

function narrow(toPages) {
  document.body.classList.toggle("pages", toPages);
  at("show-pages").setAttribute("aria-pressed", String(toPages));
  at("show-pane").setAttribute("aria-pressed", String(!toPages));
}

const pages = new Pages(at("pages"), {
  move: (name, region, box) => ask("move", {panel: name, region, box}),
  change: (content) => ask("change", content),
  choose, draw,
}, write);
const panel = new PanelView(at("view-panel"), tell, {
  change: (content) => ask("change", content).then(() => panel.open(content.panel, about(content.panel))),
  keep: (name) => ask("keep", {panel: name}).then(() => panel.open(name, about(name))),
  reveal: (name) => { tab("text"); editor.find(name); },
});
const queue = new QueueView(at("view-queue"), tell);
const concepts = new ConceptsView(at("view-concepts"), tell);
let editor;

function layers() {
  const off = new Set(JSON.parse(localStorage.getItem("storyforge-off") ?? "[\"notes\"]"));
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  const apply = () => {
    sheet.replaceSync([...off].map((layer) => `.paper .${layer} { display: none; }`).join("\n"));
    localStorage.setItem("storyforge-off", JSON.stringify([...off]));
  };
  at("layers").append(...LAYERS.map((layer) => make("label", {}, make("input", {type: "checkbox", checked: !off.has(layer), onchange: (event) => { if (event.target.checked) off.delete(layer); else off.add(layer); apply(); }}), layer)));
  apply();
}

function split() {
  const bar = at("split"), set = (share) => {
    const width = Math.min(80, Math.max(25, share));
    document.documentElement.style.setProperty("--left", `${width}%`);
    bar.setAttribute("aria-valuenow", String(Math.round(width)));
  };
  bar.addEventListener("pointerdown", (down) => {
    bar.setPointerCapture(down.pointerId);
    const move = (event) => set(100 * event.clientX / innerWidth);
    bar.addEventListener("pointermove", move);
    bar.addEventListener("pointerup", () => bar.removeEventListener("pointermove", move), {once: true});
  });
  bar.addEventListener("keydown", (event) => {
    const by = {ArrowLeft: -3, ArrowRight: 3}[event.key];
    if (by) set(Number(bar.getAttribute("aria-valuenow")) + by);
  });
}

function keys() {
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.target.closest("#editor, textarea, input")) return;
    if (event.key.toLowerCase() === "z") { event.preventDefault(); ask(event.shiftKey ? "redo" : "undo", {}); }
    if (event.key.toLowerCase() === "y") { event.preventDefault(); ask("redo", {}); }
  });
  at("tabs").addEventListener("keydown", (event) => {
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!by) return;
    const all = [...at("tabs").children], next = all[(all.indexOf(document.activeElement) + by + all.length) % all.length];
    next.focus();
    next.click();
  });
  for (const button of at("tabs").children) button.addEventListener("click", () => tab(button.id.slice(4)));
  at("undo").addEventListener("click", () => ask("undo", {}));
  at("redo").addEventListener("click", () => ask("redo", {}));
  at("help").addEventListener("click", () => at("keys").showModal());
  at("show-pages").addEventListener("click", () => narrow(true));
  at("show-pane").addEventListener("click", () => narrow(false));
}

function listen() {
  const source = new EventSource("events");
  const heard = (name, work) => source.addEventListener(name, (event) => work(JSON.parse(event.data)));
  heard("pages", ({version: newest}) => { if (newest > version) news().catch((error) => tell(error.message, true)); });
  heard("queue", (content) => queue.show({queue: content}));
  heard("plan", (content) => { queue.show({plan: content}); summary(content); });
  heard("preview", (content) => { queue.progress(content); panel.preview(content.panel); if (/learning/.test(content.what) && !typing()) concepts.soon(); });
  heard("drawn", () => { panel.refresh(); if (!typing()) concepts.refresh(); });
  source.addEventListener("open", () => { version = Math.min(version, 0); news().catch(() => {}); refresh(); });
  source.addEventListener("error", () => tell("the desk does not answer; it goes on when it does", true));
}

/** Whether a caption is being written, which must not be taken away. */
const typing = () => document.activeElement?.closest("#view-concepts textarea");

/** What a change costs, before it is drawn. */
function summary({lines, seconds}) {
  const stale = lines.filter((line) => line.state === "stale" && line.subject.startsWith("panel "));
  if (stale.length) tell(`to be drawn: ${stale.length === 1 ? stale[0].subject.slice(6) : `${stale.length} pictures`}${seconds ? `, ${Math.round(seconds)} s in all` : ""}`);
}

async function refresh() {
  try {
    const [jobs, plan] = await Promise.all([write ? post("queue", {}) : {jobs: [], paused: false}, get("plan")]);
    queue.show({queue: jobs, plan});
  } catch (error) { tell(error.message, true); }
}

async function begin() {
  narrow(true);
  layers();
  split();
  keys();
  const [file, words] = await Promise.all([get("text"), get("words")]);
  base = file.text;
  pages.poses = words.poses;
  at("editor").dataset.name = file.name;
  editor = new Editor(at("editor"), file.source, words, {typed, undo: () => ask("undo", {}), redo: () => ask("redo", {})}, {write, nonce: document.body.dataset.nonce});
  show(await post("book", {have: []}));
  listen();
}

begin().catch((error) => tell(error.message, true));
