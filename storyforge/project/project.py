"""What can be asked for: each verb of the command line as a function, and the order of the stages.

Whatever exists is skipped, whatever is missing is made and kept at once; how a concept is learnt
or a picture drawn is the stages' own knowledge. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Final

from storyforge.engine.books import art_of
from storyforge.engine.engine import Counts, Engine, Trouble, ledger_of
from storyforge.errors import Diagnostic, EnvironmentProblem, Severity, StoryForgeError, closest
from storyforge.executor import OnProgress
from storyforge.model.card import Card
from storyforge.modelref import ModelRef
from storyforge.plan.cost import Cost, total
from storyforge.plan.pins import findings_in, pinned_keys, read_pins
from storyforge.plan.plan import Order, Plan, base_of, draw_up
from storyforge.plan.status import StatusLine, missing, status_lines
from storyforge.plan.takes import check_panels, picture_of, with_pins
from storyforge.project.inspect import examine_task
from storyforge.project.output import file_of, published
from storyforge.store import Product, Store, write_whole
from storyforge.story import story as stories
from storyforge.story.layout import Layout, find, names
from storyforge.story.story import Story
from storyforge.train.logs import Logs

if TYPE_CHECKING:
    from storyforge.book.leaf import Art

_REFERENCES: Final = 4
"""Reference pictures of each concept on a contact sheet."""


@dataclass(frozen=True, slots=True)
class Run:
    """What is asked of a story.

    store   the folder of products; None for `.storyforge` beside the story
    out     the folder of books; None for `build` beside the story
    jobs    concepts learnt at a time; None for as many as the machine has processors
    assets  whether HTML is a folder with its pictures beside it
    wrap    whether to make what a printer takes too: the cover that wraps the book, and its inside
    logs    where losses and previews of the training go; None for nowhere
    previews  a folder where every picture can be seen while it is drawn
    """

    path: Path
    order: Order = Order()
    store: Path | None = None
    out: Path | None = None
    jobs: int | None = None
    assets: bool = False
    wrap: bool = False
    logs: Logs | None = None
    previews: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    books     the files in the folder of books
    findings  what a printer would send back of the PDF, if there is one
    pinned    the panels whose picture was kept as it is
    """

    made: Counts
    skipped: Counts
    books: tuple[Path, ...]
    troubles: tuple[Trouble, ...]
    seconds: float
    findings: tuple[Diagnostic, ...] = ()
    pinned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """A plan's outline, and where its products are kept.

    total    what everything that is stale may take
    strange  panels with a pinned picture that the story does not have
    """

    lines: tuple[StatusLine, ...]
    store: Path
    total: Cost = Cost()
    strange: tuple[str, ...] = ()

    @property
    def stale(self) -> tuple[StatusLine, ...]:
        """What is to be made."""
        return tuple(line for line in self.lines if line.state == "stale")


def check(path: Path) -> tuple[Diagnostic, ...]:
    """Every mistake in a story: its files, its pins, and the words that cannot be set."""
    findings = (*stories.check(path), *findings_in(path))
    if any(finding.severity is Severity.ERROR for finding in findings):
        return findings
    from storyforge.book.fit import fit_findings

    return tuple(sorted((*findings, *fit_findings(stories.read(path)))))


def plan(run_: Run) -> Survey:
    """Say what of the story is made, what is to be made and why; make nothing."""
    drawn, store = planned(run_)
    own = ledger_of(store, drawn.story)
    others = [ledger for ledger in store.ledgers() if ledger != own]
    known = [entry for ledger in others for entry in ledger.entries().values()]
    lines = status_lines(drawn, store, own.entries(), known)
    stale = [line.cost for line in lines if line.state == "stale"]
    panels = {task.panel for task in drawn.panels}
    strange = tuple(panel for panel in drawn.pins if panel not in panels)
    return Survey(tuple(lines), store.root, total(stale), strange)


def train(run_: Run, concepts: Sequence[str], on_progress: OnProgress) -> Outcome:
    """Learn the concepts named, or all of the story's; their pictures and books are left alone."""
    drawn, store = planned(run_)
    _check_names(concepts, drawn.story)
    wanted = tuple(task for task in drawn.train if not concepts or task.concept in concepts)
    return made(
        run_, replace(drawn, train=wanted, fuse=None, panels=(), books=()), store, on_progress
    )


def examine(run_: Run, concepts: Sequence[str]) -> tuple[Diagnostic, ...]:
    """What is wrong with the pictures that `train` would learn from; nothing if it learns none."""
    drawn, store = planned(run_)
    wanted = [task for task in drawn.train if not concepts or task.concept in concepts]
    unlearnt = [task for task in wanted if not store.has("concepts", task.key)]
    return tuple(found for task in unlearnt for found in examine_task(task).findings)


def learnt(run_: Run, concepts: Sequence[str] = ()) -> tuple[Card, ...]:
    """What the files of the concepts named, or of all, say of them; those not learnt are left out.

    Raises StoryForgeError for a name that the story does not have.
    """
    drawn, store = planned(run_)
    _check_names(concepts, drawn.story)
    files = {
        task.concept: store.path("concepts", task.key)
        for task in drawn.train
        if store.has("concepts", task.key)
    }
    files |= {name: spec for name, spec in drawn.story.concepts.items() if isinstance(spec, Path)}
    wanted = concepts or list(drawn.story.concepts)
    return tuple(Card.read(files[name]) for name in wanted if name in files)


def _check_names(concepts: Sequence[str], story: Story) -> None:
    for name in concepts:
        if name not in story.concepts:
            guess = closest(name, story.concepts)
            hint = f"did you mean `{guess}`?" if guess else None
            raise StoryForgeError(f"no concept named `{name}` in this story", hint=hint)


def fuse(run_: Run, on_progress: OnProgress) -> Outcome:
    """Learn the concepts that panels show and fuse them into one model."""
    drawn, store = planned(run_)
    shown = dict(drawn.fuse.concepts) if drawn.fuse else {}
    wanted = tuple(task for task in drawn.train if task.concept in shown)
    return made(run_, replace(drawn, train=wanted, panels=(), books=()), store, on_progress)


def render(run_: Run, only: Sequence[str], on_progress: OnProgress) -> Outcome:
    """Make all that is missing, then the books; with `only`, these panels and what they need."""
    drawn, store = planned(run_)
    check_panels(drawn, only)
    panels = tuple(task for task in drawn.panels if not only or task.panel in only)
    return made(run_, replace(drawn, panels=panels), store, on_progress)


def book(run_: Run, on_progress: OnProgress) -> Outcome:
    """Bind the books from pictures that exist."""
    drawn, store = _complete(run_)
    return made(run_, replace(drawn, train=(), fuse=None, panels=()), store, on_progress)


def preflight(run_: Run, on_progress: OnProgress) -> tuple[Diagnostic, ...]:
    """Whether the book is fit to print, as far as it is made: its pages, and its PDF."""
    drawn, store = _complete(run_)
    engine = Engine(drawn, store, on_progress)
    with store.claim():
        return engine.books.judged(drawn.books, on_progress)


def _complete(run_: Run) -> tuple[Plan, Store]:
    """The plan and the store; StoryForgeError names the pictures that are missing."""
    drawn, store = planned(run_)
    pairs = [(task.panel, task.key) for task in drawn.panels]
    lacking = [panel for panel, key in pairs if picture_of(drawn, store, panel, key) is None]
    if lacking:
        names = ", ".join(f"`{name}`" for name in lacking)
        message = f"not drawn, or changed since: {names}"
        raise StoryForgeError(message, hint=f"run `storyforge render {run_.path}`")
    return drawn, store


def sheet(run_: Run) -> Path:
    """Lay every picture beside its concepts' reference pictures; the file that shows them."""
    from storyforge.book.sheet import Reference, SheetRow, write_sheet

    drawn, store = planned(run_)
    references = {
        task.concept: Reference(
            task.concept, tuple(task.folder / image for image in task.images[:_REFERENCES])
        )
        for task in drawn.train
    }
    keys = {task.panel: task.key for task in drawn.panels}
    rows = [
        SheetRow(
            f"{panel.id}, page {page}",
            picture,
            tuple(references[name] for name in drawn.story.cast(panel) if name in references),
        )
        for page, panel in drawn.story.panels()
        if (picture := picture_of(drawn, store, panel.id, keys[panel.id]))
    ]
    if not rows:
        hint = f"run `storyforge render {run_.path}`"
        raise StoryForgeError("no picture of this story is drawn", hint=hint)
    with TemporaryDirectory() as folder:
        data = write_sheet(rows, Path(folder) / "sheet.png").read_bytes()
    target = file_of(drawn.story, run_.out, ".sheet.png")
    write_whole(target, data)
    return target


def preview(run_: Run, formats: Sequence[str], *, with_art: bool) -> tuple[Path, ...]:
    """Lay out every page as it will be bound, before anything is drawn; the files that show it.

    formats   `png`, `pdf` and `html`
    with_art  whether the pictures that are drawn already are shown beneath
    """
    from storyforge.book.preview import typeset, web
    from storyforge.book.preview.pages import proof_of

    story = stories.read(run_.path)
    drawn = _pictures(run_) if with_art else {}
    made = proof_of(story, run_.order.language, drawn)
    tongue = "" if made.language == story.language else f".{made.language}"
    first = file_of(story, run_.out, f"{tongue}.proof")
    out, name = first.parent, first.name
    files: list[Path] = []
    if "png" in formats:
        pages = typeset.pngs(made.drawings)
        files = [out / name / f"{each.name}.png" for each in made.drawings]
        for old in set((out / name).glob("[0-9][0-9]-*.png")) - set(files):
            old.unlink()
        for path, page in zip(files, pages, strict=True):
            write_whole(path, page)
        files.append(out / f"{name}.png")
        write_whole(files[-1], typeset.contact_sheet(made, pages))
    if "pdf" in formats:
        files.append(out / f"{name}.pdf")
        write_whole(files[-1], typeset.pdf(made))
    if "html" in formats:
        files.append(out / f"{name}.html")
        write_whole(files[-1], web.html(made).encode())
    return tuple(files)


def _pictures(run_: Run) -> dict[str, Art]:
    """The pictures that there are, by panel."""
    drawn, store = planned(run_)
    pairs = [(task.panel, task.key) for task in drawn.panels]
    found = {panel: picture_of(drawn, store, panel, key) for panel, key in pairs}
    return {panel: art_of(panel, path) for panel, path in found.items() if path is not None}


def picture_layouts(name: str | None, where: Path | None, out: Path | None) -> Path:
    """Draw the layout `name`, or all on one sheet if None; the PNG that shows it.

    where  a story's file or folder, whose own layouts count as well
    out    the file; None for one named after the layout, in the current folder
    """
    from storyforge.book.preview import diagram, typeset

    found = layouts(where)
    if name is None:
        drawing = diagram.layouts_drawing(found)
    else:
        named = [each for each in found if each.name == name]
        if not named:
            guess = closest(name, [each.name for each in found])
            hint = f"did you mean `{guess}`?" if guess else "see `storyforge layout list`"
            raise StoryForgeError(f"no layout named `{name}`", hint=hint)
        drawing = diagram.layout_drawing(named[0])
    target = out or Path(f"{drawing.name}.png")
    if target.suffix.lower() != ".png":
        message = f"`{target}` does not end in `.png`, and a layout is shown as a PNG"
        raise StoryForgeError(message, hint=f"write `--out {target.with_suffix('.png')}`")
    write_whole(target, typeset.flat(typeset.pngs([drawing])[0]))
    return target


def store_at(where: Path) -> Store:
    """The store of a story file, of a story's folder, or in the folder itself.

    Raises StoryForgeError if there is none.
    """
    folder = where.parent if where.is_file() else where
    for candidate in (folder / ".storyforge", folder):
        if (candidate / "locks").is_dir():
            return Store(candidate)
    hint = "name a story that was rendered, or the folder given as `--store`"
    raise StoryForgeError(f"no store at `{where}`", hint=hint)


def gc(where: Path, *, dry: bool = False) -> list[Product]:
    """Remove what no story needs any more; what a lock beside the store names is kept."""
    store = store_at(where)
    return store.gc(keep=pinned_keys(store.root.parent), dry=dry)


def layouts(where: Path | None) -> tuple[Layout, ...]:
    """The layouts that come with storyforge and, with a story's file or folder, those beside it."""
    folders = () if where is None else ((where.parent if where.is_file() else where) / "layouts",)
    found = [find(name, folders) for name in names(folders)]
    return tuple(stories.read_layout(path) for path in found if path is not None)


def planned(run_: Run) -> tuple[Plan, Store]:
    """The story's plan with what is pinned, and its store.

    A story whose pictures are all pinned needs no base.
    """
    story = stories.read(run_.path)
    store = Store(run_.store or story.folder / ".storyforge")
    order = run_.order
    if run_.assets:
        formats = order.formats or story.book.formats
        formats = tuple(dict.fromkeys("web" if name == "html" else name for name in formats))
        order = replace(order, formats=formats)
    if run_.wrap:
        formats = order.formats or story.book.formats
        order = replace(order, formats=tuple(dict.fromkeys((*formats, "cover", "inside"))))
    pins = read_pins(story, store)
    try:
        base = base_of(story)
    except EnvironmentProblem:
        if not all(panel.id in pins for _, panel in story.panels()):
            raise
        base = ModelRef(story.base, story.base)
    return with_pins(draw_up(story, base=base, order=order), pins), store


def made(
    run_: Run,
    asked: Plan,
    store: Store,
    on_progress: OnProgress,
    names_: Mapping[str, str] | None = None,
) -> Outcome:
    """Make what is missing of `asked`, stage by stage, and lay the books out.

    names_   what the ledger calls a product, by key, where it is not the plan's own
    """
    started = perf_counter()
    with store.claim():
        wanted = _wanted(asked, store)
        engine = Engine(asked, store, on_progress, names=names_ or {})
        engine.compose(wanted.books)
        engine.learn(wanted.train, run_.jobs, run_.logs)
        engine.fuse(wanted.fuse)
        engine.draw(wanted.panels, run_.previews)
        engine.bind(wanted.books)
        printed = [task for task in asked.books if task.format == "pdf"]
        printed = [t for t in printed if store.has("pdf", t.key) and engine.all_drawn(t)]
        findings = engine.books.judged(printed, on_progress)
        engine.note_all()
    engine.give_up_if_hopeless()
    finished = [task for task in asked.books if store.has(task.format, task.key)]
    books = tuple(published(asked.story, task, store, run_.out) for task in finished)
    skipped = Counts(
        concepts=len(asked.train) - len(wanted.train),
        fused=(asked.fuse is not None) - (wanted.fuse is not None),
        panels=len(asked.panels) - len(wanted.panels),
        books=len(asked.books) - len(wanted.books),
    )
    return Outcome(
        made=engine.counts(),
        skipped=skipped,
        books=books,
        troubles=tuple(engine.troubles),
        seconds=perf_counter() - started,
        findings=findings,
        pinned=tuple(task.panel for task in asked.panels if task.panel in asked.pins),
    )


def _wanted(asked: Plan, store: Store) -> Plan:
    """What is missing; products that were asked for by themselves count without anyone's need."""
    if asked.panels or asked.books:
        return missing(asked, store)
    concepts = {task.key: task for task in asked.train if not store.has("concepts", task.key)}
    fused = asked.fuse if asked.fuse and not store.has("fused", asked.fuse.key) else None
    needless = asked.fuse is not None and fused is None
    return replace(asked, train=() if needless else tuple(concepts.values()), fuse=fused)
