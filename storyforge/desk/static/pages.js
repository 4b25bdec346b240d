// The pages of the book, and what is done on them by hand.
import {make} from "./api.js";

const STEP = 0.01;
const SMALLEST = 0.04;

export class Pages {
  /** host: the element; on: {move, change, choose, draw} */
  constructor(host, on, write) {
    Object.assign(this, {host, on, write, svgs: new Map(), figures: new Map(), faces: new Set(), chosen: null, poses: [], drafts: new Set()});
    this.shape = "";
  }

  have() { return [...this.svgs.keys()]; }

  show(book) {
    for (const face of book.faces ?? []) this.#face(face);
    for (const [id, svg] of Object.entries(book.svgs ?? {})) this.svgs.set(id, svg);
    const shape = JSON.stringify(book.spreads) + book.pages?.length;
    if (shape !== this.shape) this.#build(book, shape);
    if (book.drafts) this.drafts = new Set(book.drafts);
    book.pages?.forEach((page, index) => this.#fill(this.figures.get(index), page));
    this.#drafts();
    const used = new Set(book.pages?.map((page) => page.id));
    if (this.svgs.size > used.size + 400) for (const id of this.svgs.keys()) if (!used.has(id)) this.svgs.delete(id);
  }

  #face({name, weight}) {
    if (this.faces.has(name)) return;
    this.faces.add(name);
    const face = new FontFace(name, `url(font/${name.slice(5)})`, {weight: String(weight)});
    document.fonts.add(face);
    face.load().catch(() => {});
  }

  #build(book, shape) {
    this.shape = shape;
    this.figures.clear();
    this.host.replaceChildren(...book.spreads.map((spread) => make("div", {class: "spread"}, ...spread.map((index) => {
      const figure = make("figure", {class: "sheet"}, make("div", {class: "paper"}), make("div", {class: "hands"}), make("figcaption"));
      this.figures.set(index, figure);
      return figure;
    }))));
  }

  #fill(figure, page) {
    if (figure.dataset.id !== page.id) {
      figure.dataset.id = page.id;
      const [paper, , caption] = figure.children;
      paper.innerHTML = this.svgs.get(page.id) ?? "";
      paper.firstElementChild?.setAttribute("role", "img");
      paper.firstElementChild?.setAttribute("aria-label", page.title);
      caption.textContent = page.title;
    }
    const told = JSON.stringify([page.panels, page.width, page.height]);
    if (figure.dataset.told === told || figure.querySelector(".moving")) return;
    figure.dataset.told = told;
    const kept = figure.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    figure.children[1].replaceChildren(...page.panels.flatMap((panel) => this.#panel(page, panel)));
    if (kept) figure.querySelector(`[data-name="${CSS.escape(kept)}"]`)?.focus();
    this.mark(this.chosen);
  }

  /** Say which pictures are drafts, until the real ones are drawn. */
  #drafts() {
    for (const each of this.host.querySelectorAll(".panel")) {
      const draft = this.drafts.has(each.dataset.panel);
      each.classList.toggle("draft", draft);
      each.setAttribute("aria-label", `Picture ${each.dataset.panel}${draft ? ", a draft" : ""}: open takes, layouts and drawing`);
    }
  }

  #panel(page, panel) {
    const [x, y, w, h] = panel.frame;
    const frame = make("button", {
      class: "panel", type: "button", "data-panel": panel.panel, "data-name": panel.panel,
      "aria-label": `Picture ${panel.panel}: open takes, layouts and drawing`,
      onclick: () => this.on.choose(panel.panel),
      onkeydown: (event) => { if (event.key === "d") this.on.draw(panel.panel); },
    });
    place(frame, page, x, y, w, h);
    if (!this.write) return [frame];
    const regions = [...panel.regions].sort((a, b) => a.z - b.z).map((region) => this.#region(page, panel, region));
    return [frame, ...regions];
  }

  #region(page, panel, region) {
    const who = region.concept ?? (region.prompt.slice(0, 24) || region.name);
    const said = `${who}, region ${region.name} of picture ${panel.panel}` + (region.auto ? (region.found ? "; found while it was drawn, keep it on the picture’s tab" : "; will be found while it is drawn") : region.fixed ? "; its mask says where" :
      `${region.pose ? `, ${region.pose}` : ""}; arrows move, Shift and arrows resize, P pose, F turn`);
    const button = make("button", {class: `region${region.fixed ? " fixed" : ""}${region.auto ? " auto" : ""}`, type: "button", "aria-label": said,
      "data-panel": panel.panel, "data-region": region.name, "data-name": `${panel.panel}/${region.name}`, title: `${region.name}: ${who}`});
    const at = (box) => {
      const [fx, fy, fw, fh] = panel.frame, [cx, cy, cw, ch] = panel.crop;
      const sx = fw / cw, sy = fh / ch;
      place(button, page, fx + (box[0] - cx) * sx, fy + (box[1] - cy) * sy, (box[2] - box[0]) * sx, (box[3] - box[1]) * sy);
    };
    at(region.box);
    if (!region.fixed) {
      for (const corner of ["nw", "ne", "sw", "se"]) button.append(make("i", {"data-c": corner, "aria-hidden": "true"}));
      this.#drag(button, page, panel, region, at);
    } else button.addEventListener("click", () => this.on.choose(panel.panel));
    button.addEventListener("keydown", (event) => this.#key(event, panel, region, at));
    return button;
  }

  #drag(button, page, panel, region, at) {
    button.addEventListener("pointerdown", (down) => {
      if (down.button !== 0) return;
      const corner = down.target.dataset.c;
      const paper = button.closest(".sheet").getBoundingClientRect();
      const scale = page.width / paper.width;
      const perX = scale * panel.crop[2] / panel.frame[2], perY = scale * panel.crop[3] / panel.frame[3];
      let box = region.box, moved = false;
      const move = (event) => {
        const dx = (event.clientX - down.clientX) * perX, dy = (event.clientY - down.clientY) * perY;
        moved ||= Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) > 3;
        if (!moved) return;
        button.classList.add("moving");
        box = corner ? resized(region.box, corner, dx, dy) : shifted(region.box, dx, dy);
        at(box);
      };
      const end = (event) => {
        button.removeEventListener("pointermove", move);
        button.classList.remove("moving");
        if (event.type === "pointercancel") return at(region.box);
        if (moved) this.on.move(panel.panel, region.name, box.map(thousandth));
        else this.on.choose(panel.panel);
      };
      button.setPointerCapture(down.pointerId);
      button.addEventListener("pointermove", move);
      button.addEventListener("pointerup", end, {once: true});
      button.addEventListener("pointercancel", end, {once: true});
    });
  }

  #key(event, panel, region, at) {
    const way = {ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP]}[event.key];
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); return this.on.choose(panel.panel); }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "d") return this.on.draw(panel.panel);
    if (region.fixed) return;
    if (way) {
      event.preventDefault();
      region.box = event.shiftKey ? resized(region.box, "se", ...way) : shifted(region.box, ...way);
      at(region.box);
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.on.move(panel.panel, region.name, region.box.map(thousandth)), 250);
    } else if (event.key === "p") {
      const next = this.poses[(this.poses.indexOf(region.pose) + 1) % this.poses.length];
      this.on.change({panel: panel.panel, region: region.name, key: "pose", value: next});
    } else if (event.key === "f") {
      this.on.change({panel: panel.panel, region: region.name, key: "facing", value: region.facing === "left" ? "right" : "left"});
    }
  }

  /** Show which panel is open. */
  mark(name) {
    this.chosen = name;
    for (const each of this.host.querySelectorAll(".panel")) each.classList.toggle("chosen", each.dataset.panel === name);
  }
}

function place(element, page, x, y, w, h) {
  Object.assign(element.style, {left: `${100 * x / page.width}%`, top: `${100 * y / page.height}%`, width: `${100 * w / page.width}%`, height: `${100 * h / page.height}%`});
}

const thousandth = (value) => Math.round(value * 1000) / 1000;
const within = (value, low, high) => Math.min(high, Math.max(low, value));

function shifted([x0, y0, x1, y1], dx, dy) {
  const x = within(dx, -x0, 1 - x1), y = within(dy, -y0, 1 - y1);
  return [x0 + x, y0 + y, x1 + x, y1 + y];
}

function resized([x0, y0, x1, y1], corner, dx, dy) {
  if (corner.includes("w")) x0 = within(x0 + dx, 0, x1 - SMALLEST); else x1 = within(x1 + dx, x0 + SMALLEST, 1);
  if (corner.includes("n")) y0 = within(y0 + dy, 0, y1 - SMALLEST); else y1 = within(y1 + dy, y0 + SMALLEST, 1);
  return [x0, y0, x1, y1];
}
