// Who and what the story shows: what each is learnt from, what is wrong with that, who costs whom.
import {get, make, post} from "./api.js";
import {Unsent, redraw} from "./unsent.js";

export class ConceptsView {
  constructor(host, tell) { Object.assign(this, {host, tell, name: null, unsent: new Unsent()}); }

  async show(concepts) {
    this.list = concepts;
    if (!concepts.length) return this.host.replaceChildren(make("p", {class: "soft"}, "The story names no characters, objects or scenes yet."));
    if (!concepts.some((each) => each.name === this.name)) this.name = concepts[0].name;
    await this.open(this.name);
  }

  async open(name) {
    this.name = name;
    this.choice = make("div", {class: "row", role: "group", "aria-label": "Characters, objects and scenes"}, ...this.list.map((each) =>
      make("button", {id: `concept-${each.name}`, type: "button", "aria-pressed": String(each.name === name), onclick: () => this.open(each.name)}, each.name)));
    try {
      this.#show(await get(`concept/${encodeURIComponent(name)}`));
    } catch (error) {
      this.host.replaceChildren(this.choice, make("p", {class: "error"}, error.message));
    }
  }

  #show(told) { redraw(this.host, this.choice, ...this.#about(told)); }

  #about(told) {
    const learnt = told.learnt ? `learnt: rank ${told.learnt.rank}${told.learnt.drift === null ? "" : `, drift ${(100 * told.learnt.drift).toFixed(1)} %`}` : "not learnt yet";
    return [
      make("h2", {}, told.name), make("p", {class: "soft"}, [told.kind, told.class, learnt].filter(Boolean).join(" · ")),
      ...told.findings.map((each) => make("p", {class: "warning"}, `${each.file}: ${each.code} ${each.message}`)),
      make("div", {class: "pictures"}, ...told.pictures.map((each) => this.#picture(told, each))),
      ...this.#learning(told),
      ...this.#compared(told),
      ...this.#candidates(told),
      ...this.#fusion(told),
    ];
  }

  #picture(told, each) {
    const id = `caption-${each.file}`;
    const field = make("textarea", {id, rows: 2, readonly: document.body.dataset.write !== "1"});
    const key = `${told.name}/${id}`;
    field.value = each.captions;
    this.unsent.hold(key, field);
    field.addEventListener("change", async () => {
      const text = field.value;
      try {
        await post("caption", {concept: told.name, file: each.file, text});
        this.unsent.sent(key, text);
        this.tell(`captions of ${each.file} are written`);
      } catch (error) { this.tell(error.message, true); }
    });
    return make("div", {class: "card"},
      make("div", {class: "masked", title: each.mask ? "point at it: what the mask leaves out turns dark" : ""}, make("img", {src: each.picture, alt: `${told.name}, ${each.file}`, loading: "lazy"}), each.mask ? make("img", {src: each.mask, alt: `mask of ${each.file}`, loading: "lazy"}) : ""),
      make("label", {for: id, class: "soft"}, `${each.file}: captions${each.codes.length ? ` (${each.codes.join(" ")})` : ""}`), field);
  }

  /** What was drawn while it learnt, from before the first step on. */
  #learning(told) {
    if (!told.learning?.length) return [];
    return [make("h3", {}, "While it learns"), ...told.learning.flatMap((row) => [
      make("p", {class: "soft"}, row.what),
      make("div", {class: "steps", tabindex: 0, role: "group", "aria-label": `Previews, ${row.what}`}, ...row.steps.map((each) => make("figure", {},
        make("img", {src: each.picture, alt: `${told.name} after ${each.step} steps, ${row.what}`, loading: "lazy"}),
        make("figcaption", {}, `step ${each.step}`))))])];
  }

  /** The same prompts and seeds by the base, by the concept alone and by all of them fused. */
  #compared(told) {
    if (!told.compared?.length) return [];
    const names = {base: "the base", alone: "alone", fused: "fused"};
    const ask = () => post("compare", {concept: told.name}).then(() => this.tell(`${told.name} will be drawn alone and fused`)).catch((error) => this.tell(error.message, true));
    const drawn = told.compared.some((row) => row.pictures.alone);
    return [make("h3", {}, "Alone and fused"),
      ...(drawn ? told.compared.flatMap((row) => [make("p", {class: "soft"}, row.prompt),
        make("div", {class: "steps", tabindex: 0, role: "group", "aria-label": `Alone and fused: ${row.prompt}`}, ...Object.entries(names).filter(([who]) => row.pictures[who]).map(([who, words]) => make("figure", {},
          make("img", {src: row.pictures[who], alt: `${row.prompt}, by ${words}`, loading: "lazy"}), make("figcaption", {}, words))))])
        : [make("p", {class: "soft"}, "Not drawn since it was learnt and fused.")]),
      make("div", {class: "row writes"}, make("button", {id: "compare", type: "button", onclick: ask}, drawn ? "Draw what is missing" : "Draw it alone and fused"))];
  }

  /** Look anew, but not at every step. */
  soon() { this.timer ??= setTimeout(() => { this.timer = undefined; this.refresh(); }, 4000); }

  refresh() { return this.list && !this.host.hidden && this.open(this.name); }

  /** A concept made from words: all that was drawn, and which of it the concept is learnt from. */
  #candidates(told) {
    if (!told.candidates?.length) return [];
    const locked = document.body.dataset.write !== "1";
    const key = (box) => `${told.name}/${box.id}`;
    const boxes = told.candidates.map((each) => make("input", {id: `tick-${each.number}`, type: "checkbox", value: each.number, checked: each.chosen, disabled: locked}));
    boxes.forEach((box) => this.unsent.hold(key(box), box));
    const keep = async () => {
      try {
        const ticks = boxes.map((box) => box.checked), numbers = boxes.filter((box) => box.checked).map((box) => Number(box.value));
        const chosen = await post("choose", {concept: told.name, numbers});
        boxes.forEach((box, index) => this.unsent.sent(key(box), ticks[index]));
        if (this.name === told.name) this.#show(chosen);
        this.tell(`${told.name} is learnt from ${numbers.length} pictures`);
      } catch (error) { this.tell(error.message, true); }
    };
    return [make("h3", {}, "Drawn from words"),
      make("p", {class: "soft"}, "Tick those that show one and the same. Likeness is to those that are ticked by the judge."),
      make("div", {class: "pictures"}, ...told.candidates.map((each, index) => make("label", {class: "card pick"},
        make("img", {src: each.picture, alt: `Candidate ${each.number}: ${each.prompt}`, loading: "lazy"}),
        make("span", {class: "row"}, boxes[index], `${each.number}: alike ${each.alike.toFixed(2)}, obedient ${each.text.toFixed(2)}`)))),
      make("div", {class: "row writes"}, make("button", {id: "learn-from", type: "button", class: "main", onclick: keep}, "Learn from these"))];
  }

  #fusion(told) {
    const stages = Object.entries(told.fusion?.interference ?? {});
    if (!stages.length) return [make("h3", {}, "Who costs whom"), make("p", {class: "soft"}, "Shown once the characters are fused.")];
    return [make("h3", {}, "Who costs whom"), ...(told.fusion.warnings ?? []).map((words) => make("p", {class: "warning"}, words)),
      ...stages.flatMap(([stage, rows]) => [worst(stage, rows), heat(stage, rows)])];
  }
}

function pairs(rows) {
  return Object.entries(rows).flatMap(([who, row]) => Object.entries(row).filter(([other, value]) => other !== who && value !== null).map(([other, value]) => ({who, other, value})));
}

function worst(stage, rows) {
  const found = pairs(rows).sort((a, b) => b.value - a.value)[0];
  return make("p", {}, found ? `${stage}: ${found.other} costs ${found.who} most, ${(100 * found.value).toFixed(0)} % of what ${found.who} learnt` : `${stage}: nobody costs anybody`);
}

function heat(stage, rows) {
  const names = Object.keys(rows);
  const cell = (who, other) => {
    const value = rows[who][other];
    if (who === other || value === null || value === undefined) return make("td", {}, "–");
    const made = make("td", {}, value.toFixed(2));
    made.style.background = `color-mix(in srgb, var(--accent) ${Math.min(60, Math.round(120 * value))}%, transparent)`;
    if (value > .4) made.style.color = "var(--on-accent)";
    return made;
  };
  return make("table", {class: "heat"}, make("caption", {class: "soft"}, `${stage}: each row is disturbed by the columns`),
    make("thead", {}, make("tr", {}, make("td"), ...names.map((name) => make("th", {scope: "col"}, name)))),
    make("tbody", {}, ...names.map((who) => make("tr", {}, make("th", {scope: "row"}, who), ...names.map((other) => cell(who, other))))));
}
