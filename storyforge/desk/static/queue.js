// What is drawn, what waits, and what a change would draw anew.
import {duration, make, post} from "./api.js";

export class QueueView {
  constructor(host, tell) {
    Object.assign(this, {host, tell, queue: {jobs: [], paused: false}, plan: {lines: []}});
  }

  show({queue, plan}) {
    this.queue = queue ?? this.queue;
    this.plan = plan ?? this.plan;
    const ask = (verb, id) => post("queue", {verb, id}).then((told) => this.show({queue: told})).catch((error) => this.tell(error.message, true));
    const open = this.queue.jobs.filter((job) => job.state === "waiting" || job.state === "running");
    const over = this.queue.jobs.filter((job) => !open.includes(job)).reverse();
    this.host.replaceChildren(
      make("h2", {}, "What a drawing would change"), ...this.#plan(),
      make("h2", {}, "In hand"),
      make("div", {class: "row writes"},
        make("button", {type: "button", onclick: () => ask(this.queue.paused ? "resume" : "pause")}, this.queue.paused ? "Go on" : "Pause"),
        over.length ? make("button", {type: "button", onclick: () => ask("clear")}, "List no more what is over") : "",
        this.queue.paused ? make("span", {class: "warning"}, "paused: the picture at hand is finished, no other is begun") : ""),
      open.length ? make("ol", {class: "jobs"}, ...open.map((job) => this.#job(job, ask))) : make("p", {class: "soft"}, "Nothing waits."),
      over.length ? make("ol", {class: "jobs", "aria-label": "What is over"}, ...over.map((job) => this.#job(job, ask))) : "",
    );
  }

  #plan() {
    const {lines, trouble, hint, seconds} = this.plan;
    if (trouble) return [make("p", {class: "warning"}, [trouble, hint].filter(Boolean).join(" — "))];
    const stale = lines.filter((line) => line.state === "stale");
    const panels = stale.filter((line) => line.subject.startsWith("panel ")).map((line) => line.subject.slice(6));
    if (!stale.length) return [make("p", {class: "good"}, "Everything is made as the story says.")];
    const draw = () => post("draw", {panels, takes: 1}).catch((error) => this.tell(error.message, true));
    return [
      make("p", {}, `${stale.length} to be made, ${duration(seconds)}:`),
      make("ul", {}, ...stale.slice(0, 40).map((line) => make("li", {}, `${line.subject}: ${line.reasons.join(", ")}`, make("span", {class: "soft"}, line.seconds ? ` (${duration(line.seconds)})` : "")))),
      panels.length ? make("div", {class: "row writes"}, make("button", {class: "main", type: "button", onclick: draw}, panels.length === 1 ? "Draw it" : `Draw these ${panels.length} pictures`)) : "",
    ];
  }

  #job(job, ask) {
    const words = {waiting: "waits", running: "is drawn", done: "done", failed: "failed", cancelled: "taken out"}[job.state];
    const takes = job.takes > 1 ? `, ${job.takes} takes` : "";
    return make("li", {},
      make("div", {class: "row"}, make("strong", {}, job.panel + takes), make("span", {class: job.state === "failed" ? "error" : "soft"}, words + (job.seconds ? ` in ${Math.round(job.seconds)} s` : "")),
        job.state === "waiting" ? make("button", {type: "button", class: "writes", onclick: () => ask("first", job.id)}, "First") : "",
        ["waiting", "running"].includes(job.state) ? make("button", {type: "button", class: "writes", "aria-label": `Take ${job.panel} out`, onclick: () => ask("cancel", job.id)}, "Take out") : ""),
      job.state === "running" ? make("div", {}, make("span", {class: "soft", id: `job-${job.id}-what`}, job.what || "begins"), make("progress", {id: `job-${job.id}`, "aria-label": `How far ${job.panel} is`, max: Math.max(1, job.total), value: job.done}), make("img", {id: `job-${job.id}-picture`, alt: `${job.panel} while it is drawn`, hidden: true, onload: (e) => { e.target.hidden = false; }, onerror: (e) => { e.target.hidden = true; }})) : "",
      job.error ? make("p", {class: "error"}, job.error) : "");
  }

  progress({id, panel, what, done, total}) {
    const bar = document.getElementById(`job-${id}`);
    if (!bar) return;
    bar.max = Math.max(1, total);
    bar.value = done;
    document.getElementById(`job-${id}-what`).textContent = what;
    if (!this.seen || Date.now() - this.seen > 400) {
      this.seen = Date.now();
      document.getElementById(`job-${id}-picture`).src = `preview/${encodeURIComponent(panel)}?${this.seen}`;
    }
  }
}
