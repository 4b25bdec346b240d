// One picture: what it will be, its takes side by side, its layout, and a retouched picture.
import {duration, get, make, post, send} from "./api.js";
import {Unsent, redraw} from "./unsent.js";

export class PanelView {
  /** host; tell(words): what is said in the state line; on: {change, reveal} */
  constructor(host, tell, on) {
    Object.assign(this, {host, tell, on, name: null, about: null, layouts: null, unsent: new Unsent()});
    this.host.append(make("p", {class: "soft"}, "Choose a picture on a page: its takes, its layout and how it is drawn are shown here."));
  }

  async open(name, about) {
    this.name = name;
    this.about = about ?? this.about;
    await this.refresh();
  }

  /** Take over what the pages say of the panel that is open, if it is something else. */
  follow(find) {
    const about = this.name && find(this.name);
    if (!about || JSON.stringify(about) === JSON.stringify(this.about)) return;
    this.about = about;
    this.refresh();
  }

  async refresh() {
    if (!this.name) return;
    const name = this.name;
    try {
      const told = await get(`panel/${encodeURIComponent(name)}`);
      if (name === this.name) this.#show(told);
    } catch (error) {
      this.host.replaceChildren(make("h2", {}, name), make("p", {class: "error"}, error.message));
    }
  }

  preview(panel) {
    if (panel !== this.name || !this.live) return;
    this.live.src = `preview/${encodeURIComponent(panel)}?${Date.now()}`;
    this.live.hidden = false;
  }

  #show(told) {
    const takes = make("ul", {class: "takes"}, ...told.takes.map((take) => this.#take(told, take)));
    const count = make("input", {type: "number", min: 1, max: 16, value: Math.max(1, told.takes.length), id: "takes", class: "narrow"});
    const steps = make("input", {type: "number", min: 1, max: 200, placeholder: "usual", id: "steps", class: "narrow"});
    for (const field of [count, steps]) this.unsent.hold(`${told.panel}/${field.id}`, field);
    this.live = make("img", {alt: `Picture ${told.panel} while it is drawn`, hidden: true, onerror: (event) => { event.target.hidden = true; }});
    this.live.style.maxWidth = "14rem";
    const number = (input) => (input.value ? Number(input.value) : null);
    const draw = () => post("draw", {panels: [told.panel], takes: number(count) ?? 1, steps: number(steps)}).catch((error) => this.tell(error.message, true));
    redraw(this.host,
      make("h2", {}, `Picture ${told.panel}`),
      make("p", {class: "soft"}, told.prompt),
      make("div", {class: "row writes"},
        make("button", {id: "draw", class: "main", type: "button", onclick: draw}, "Draw"),
        make("label", {}, "takes ", count), make("label", {}, "steps ", steps),
        make("span", {class: "soft"}, duration(told.seconds)),
        make("button", {type: "button", onclick: () => this.on.reveal(told.panel)}, "Show its text")),
      this.live,
      told.pinned ? this.#pinned(told) : this.#unpinned(told),
      told.takes.length ? takes : make("p", {class: "soft"}, "Nothing is drawn yet. The page shows where everybody will stand."),
      this.#found(told),
      this.#drop(told),
      make("h3", {}, "Layout"),
      this.#layouts(),
    );
  }

  /** Whose place was found while the picture was drawn, and a button that makes it the author's. */
  #found(told) {
    const auto = (this.about?.regions ?? []).filter((region) => region.auto);
    if (!auto.length) return "";
    const known = auto.every((region) => region.found), names = auto.map((region) => region.concept ?? region.name).join(", ");
    return make("div", {class: "row"},
      make("span", {class: "soft"}, known ? `Found while it was drawn: ${names}. Kept, they can be dragged.` : `Where ${names} will stand is found while it is drawn.`),
      known ? make("button", {type: "button", class: "writes", onclick: () => this.on.keep(told.panel)}, "Keep these regions") : "");
  }

  #pinned(told) {
    return make("div", {class: "row"}, make("span", {class: "good"}, `pinned: take ${told.pinned.take}; it stays, whatever changes`),
      make("button", {type: "button", class: "writes", onclick: () => this.#approve("unpin")}, "Let go"));
  }

  /** What the book shows now may be kept as it is, without choosing among takes. */
  #unpinned(told) {
    if (!told.takes.some((take) => take.shown)) return "";
    return make("div", {class: "row writes"}, make("button", {type: "button", onclick: () => this.#approve("pin")}, "Pin what the book shows"));
  }

  #take(told, take) {
    const scores = [take.identity !== undefined ? `identity ${take.identity.toFixed(2)}` : "", take.obedience !== undefined ? `obedience ${take.obedience.toFixed(2)}` : ""].filter(Boolean).join(", ");
    return make("li", {class: take.shown ? "shown" : ""},
      make("img", {src: take.picture, alt: `Take ${take.take} of ${told.panel}`, loading: "lazy"}),
      make("div", {class: "row"}, make("span", {}, `take ${take.take}${take.shown ? ", in the book" : ""}`),
        make("button", {type: "button", class: "writes", "aria-label": `Pick take ${take.take}`, onclick: () => this.#approve("pick", take.take)}, "Pick")),
      scores ? make("div", {class: "soft"}, scores) : "");
  }

  async #approve(verb, take) {
    try {
      this.#show(await post("approve", {verb, panel: this.name, take}));
      this.tell(verb === "unpin" ? `${this.name} follows the story again` : `${verb === "pick" ? `take ${take} of ` : ""}${this.name} is kept`);
    } catch (error) { this.tell(error.message, true); }
  }

  #drop(told) {
    const input = make("input", {type: "file", accept: "image/*", id: "retouched", onchange: () => input.files[0] && keep(input.files[0])});
    const keep = async (file) => {
      try {
        this.#show(await send(`retouch/${encodeURIComponent(told.panel)}`, file));
        this.tell(`your picture of ${told.panel} is in the book`);
      } catch (error) { this.tell(error.message, true); }
    };
    return make("div", {class: "drop writes",
      ondragover: (event) => { event.preventDefault(); event.currentTarget.classList.add("over"); },
      ondragleave: (event) => event.currentTarget.classList.remove("over"),
      ondrop: (event) => { event.preventDefault(); event.currentTarget.classList.remove("over"); if (event.dataTransfer.files[0]) keep(event.dataTransfer.files[0]); },
    }, make("label", {for: "retouched"}, "Drop a retouched picture here, or choose one: "), input);
  }

  #layouts() {
    const host = make("div", {class: "layouts"});
    const fill = ({layouts}) => host.replaceChildren(...layouts.map((each) => {
      const button = make("button", {id: `layout-${each.name}`, type: "button", title: each.about, "aria-label": `Layout ${each.name}: ${each.about}`, "aria-pressed": String(this.about?.layout === each.name), disabled: document.body.dataset.write !== "1",
        onclick: () => this.on.change({panel: this.name, key: "layout", value: each.name})});
      button.innerHTML = each.svg;
      button.firstElementChild?.setAttribute("aria-hidden", "true");
      button.append(make("span", {}, each.name));
      return button;
    }));
    if (this.layouts) fill(this.layouts);
    else get("layouts").then((told) => fill(this.layouts = told)).catch((error) => this.tell(error.message, true));
    return host;
  }
}
