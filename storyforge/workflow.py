"""What can be asked for: each verb of the command line as a function, and the order of the stages.

Whatever exists is skipped, whatever is missing is made and kept at once; how a concept is learnt
or a picture drawn is the stages' own knowledge. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Final

from storyforge import story as stories
from storyforge.bindery import art_of
from storyforge.errors import Diagnostic, StoryForgeError
from storyforge.executor import Tell
from storyforge.inspection import examine_task
from storyforge.layout import Layout, closest, find, names
from storyforge.model.card import Card
from storyforge.outline import Line, missing, outline
from storyforge.plan import BookTask, Order, Plan, base_of, draw_up
from storyforge.store import Store, write_whole
from storyforge.story import Story
from storyforge.train.logs import Logs
from storyforge.workshop import Counts, Trouble, Workshop, ledger_of

if TYPE_CHECKING:
    from storyforge.book.leaf import Art

_ENDINGS: Final = {
    "web": ".web",
    "epub-reflow": ".reflow.epub",
    "png": ".pages",
    "cover": "-cover.pdf",
    "inside": "-inside.pdf",
}
"""How books are called whose format is not their files' ending."""

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
    """

    path: Path
    order: Order = Order()
    store: Path | None = None
    out: Path | None = None
    jobs: int | None = None
    assets: bool = False
    wrap: bool = False
    logs: Logs | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did; `books` are the files in the folder of books.

    findings  what a printer would send back of the PDF, if there is one
    """

    made: Counts
    skipped: Counts
    books: tuple[Path, ...]
    troubles: tuple[Trouble, ...]
    seconds: float
    findings: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """A plan's outline, and where its products are kept."""

    lines: tuple[Line, ...]
    store: Path


def plan(run_: Run) -> Survey:
    """Say what of the story is made, what is to be made and why; make nothing."""
    drawn, store = _planned(run_)
    return Survey(tuple(outline(drawn, store, ledger_of(store, drawn.story).entries())), store.root)


def train(run_: Run, concepts: Sequence[str], tell: Tell) -> Outcome:
    """Learn the concepts named, or all of the story's; their pictures and books are left alone."""
    drawn, store = _planned(run_)
    _check_names(concepts, drawn.story)
    wanted = tuple(task for task in drawn.train if not concepts or task.concept in concepts)
    return _made(run_, replace(drawn, train=wanted, fuse=None, panels=(), books=()), store, tell)


def examine(run_: Run, concepts: Sequence[str]) -> tuple[Diagnostic, ...]:
    """What is wrong with the pictures that `train` would learn from; nothing if it learns none."""
    drawn, store = _planned(run_)
    wanted = [task for task in drawn.train if not concepts or task.concept in concepts]
    unlearnt = [task for task in wanted if not store.has("concepts", task.key)]
    return tuple(found for task in unlearnt for found in examine_task(task).findings)


def learnt(run_: Run, concepts: Sequence[str] = ()) -> tuple[Card, ...]:
    """What the files of the concepts named, or of all, say of them; those not learnt are left out.

    Raises StoryForgeError for a name that the story does not have.
    """
    drawn, store = _planned(run_)
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


def fuse(run_: Run, tell: Tell) -> Outcome:
    """Learn the concepts that panels show and fuse them into one model."""
    drawn, store = _planned(run_)
    shown = dict(drawn.fuse.concepts) if drawn.fuse else {}
    wanted = tuple(task for task in drawn.train if task.concept in shown)
    return _made(run_, replace(drawn, train=wanted, panels=(), books=()), store, tell)


def render(run_: Run, only: Sequence[str], tell: Tell) -> Outcome:
    """Make all that is missing, then the books; with `only`, these panels and what they need."""
    drawn, store = _planned(run_)
    known = [panel.panel for panel in drawn.panels]
    for name in only:
        if name not in known:
            guess = closest(name, known)
            hint = f"did you mean `{guess}`?" if guess else None
            raise StoryForgeError(f"no panel named `{name}` in this story", hint=hint)
    panels = tuple(task for task in drawn.panels if not only or task.panel in only)
    return _made(run_, replace(drawn, panels=panels), store, tell)


def book(run_: Run, tell: Tell) -> Outcome:
    """Bind the books from pictures that exist."""
    drawn, store = _drawn(run_)
    return _made(run_, replace(drawn, train=(), fuse=None, panels=()), store, tell)


def preflight(run_: Run, tell: Tell) -> tuple[Diagnostic, ...]:
    """Whether the book is fit to print, as far as it is made: its pages, and its PDF."""
    drawn, store = _drawn(run_)
    shop = Workshop(drawn, store, tell)
    with store.claim():
        return shop.bindery.judged(drawn.books, tell)


def _drawn(run_: Run) -> tuple[Plan, Store]:
    """The plan and the store; StoryForgeError names the pictures that are missing."""
    drawn, store = _planned(run_)
    lacking = [task.panel for task in drawn.panels if not store.has("panels", task.key)]
    if lacking:
        names = ", ".join(f"`{name}`" for name in lacking)
        message = f"not drawn, or changed since: {names}"
        raise StoryForgeError(message, hint=f"run `storyforge render {run_.path}`")
    return drawn, store


def sheet(run_: Run) -> Path:
    """Lay every picture beside its concepts' reference pictures; the file that shows them."""
    from storyforge.book.sheet import Reference, Row, write_sheet

    drawn, store = _planned(run_)
    references = {
        task.concept: Reference(
            task.concept, tuple(task.folder / image for image in task.images[:_REFERENCES])
        )
        for task in drawn.train
    }
    keys = {task.panel: task.key for task in drawn.panels}
    rows = [
        Row(
            f"{panel.id}, page {page}",
            store.path("panels", keys[panel.id]),
            tuple(references[name] for name in drawn.story.cast(panel) if name in references),
        )
        for page, panel in drawn.story.panels()
        if store.has("panels", keys[panel.id])
    ]
    if not rows:
        hint = f"run `storyforge render {run_.path}`"
        raise StoryForgeError("no picture of this story is drawn", hint=hint)
    with TemporaryDirectory() as folder:
        data = write_sheet(rows, Path(folder) / "sheet.png").read_bytes()
    target = _out(run_, drawn.story) / f"{_name(drawn.story)}.sheet.png"
    write_whole(target, data)
    return target


def preview(run_: Run, formats: Sequence[str], *, with_art: bool) -> tuple[Path, ...]:
    """Lay out every page as it will be bound, before anything is drawn; the files that show it.

    formats   `png`, `pdf` and `html`
    with_art  whether the pictures that are drawn already are shown beneath
    """
    from storyforge.proof import typeset, web
    from storyforge.proof.pages import proof_of

    story = stories.read(run_.path)
    drawn = _pictures(run_) if with_art else {}
    made = proof_of(story, run_.order.language, drawn)
    tongue = "" if made.language == story.language else f".{made.language}"
    out, name = _out(run_, story), f"{_name(story)}{tongue}.proof"
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
    """The pictures that the store holds, by panel."""
    drawn, store = _planned(run_)
    return {
        task.panel: art_of(task.panel, store.path("panels", task.key))
        for task in drawn.panels
        if store.has("panels", task.key)
    }


def picture_layouts(name: str | None, where: Path | None, out: Path | None) -> Path:
    """Draw the layout `name`, or all on one sheet if None; the PNG that shows it.

    where  a story's file or folder, whose own layouts count as well
    out    the file; None for one named after the layout, in the current folder
    """
    from storyforge.proof import diagram, typeset

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


def layouts(where: Path | None) -> tuple[Layout, ...]:
    """The layouts that come with storyforge and, with a story's file or folder, those beside it."""
    folders = () if where is None else ((where.parent if where.is_file() else where) / "layouts",)
    found = [find(name, folders) for name in names(folders)]
    return tuple(stories.read_layout(path) for path in found if path is not None)


def _planned(run_: Run) -> tuple[Plan, Store]:
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
    return draw_up(story, base=base_of(story), order=order), store


def _made(run_: Run, asked: Plan, store: Store, tell: Tell) -> Outcome:
    """Make what is missing of `asked`, stage by stage, and lay the books out."""
    started = perf_counter()
    with store.claim():
        wanted = _wanted(asked, store)
        shop = Workshop(asked, store, tell)
        shop.compose(wanted.books)
        shop.learn(wanted.train, run_.jobs, run_.logs)
        shop.fuse(wanted.fuse)
        shop.draw(wanted.panels)
        shop.bind(wanted.books)
        printed = [task for task in asked.books if task.format == "pdf"]
        printed = [task for task in printed if store.has("pdf", task.key)]
        findings = shop.bindery.judged(printed, tell)
        shop.note_all()
    shop.give_up_if_hopeless()
    out = _out(run_, asked.story)
    finished = [task for task in asked.books if store.has(task.format, task.key)]
    books = tuple(_published(asked.story, task, store, out) for task in finished)
    skipped = Counts(
        concepts=len(asked.train) - len(wanted.train),
        fused=(asked.fuse is not None) - (wanted.fuse is not None),
        panels=len(asked.panels) - len(wanted.panels),
        books=len(asked.books) - len(wanted.books),
    )
    return Outcome(
        made=shop.counts(),
        skipped=skipped,
        books=books,
        troubles=tuple(shop.troubles),
        seconds=perf_counter() - started,
        findings=findings,
    )


def _wanted(asked: Plan, store: Store) -> Plan:
    """What is missing; products that were asked for by themselves count without anyone's need."""
    if asked.panels or asked.books:
        return missing(asked, store)
    concepts = {task.key: task for task in asked.train if not store.has("concepts", task.key)}
    fused = asked.fuse if asked.fuse and not store.has("fused", asked.fuse.key) else None
    needless = asked.fuse is not None and fused is None
    return replace(asked, train=() if needless else tuple(concepts.values()), fuse=fused)


def _published(story: Story, task: BookTask, store: Store, out: Path) -> Path:
    """The book under its readable name; the file is only touched if it is another one."""
    tongue = "" if task.language == story.language else f".{task.language}"
    target = out / f"{_name(story)}{tongue}{_ENDINGS.get(task.format, f'.{task.format}')}"
    product = store.path(task.format, task.key)
    if product.is_dir():
        _publish_folder(product, target)
    else:
        _publish_file(product, target)
    return target


def _publish_file(product: Path, target: Path) -> None:
    data = product.read_bytes()
    if not target.is_file() or target.read_bytes() != data:
        write_whole(target, data)


def _publish_folder(product: Path, target: Path) -> None:
    """Copy the files, and remove those of the same kind that an earlier book left."""
    wanted = {path.relative_to(product) for path in product.rglob("*") if path.is_file()}
    for name in wanted:
        _publish_file(product / name, target / name)
    for folder in {name.parent for name in wanted}:
        for pattern in ("page-*.png", "picture-*.jpg"):
            for path in (target / folder).glob(pattern):
                if path.relative_to(target) not in wanted:
                    path.unlink()


def _out(run_: Run, story: Story) -> Path:
    return run_.out or story.folder / "build"


def _name(story: Story) -> str:
    """What the story's books are called: as its file, or its folder if the file is `story.yaml`."""
    return story.path.stem if story.path.stem != "story" else story.path.absolute().parent.name
