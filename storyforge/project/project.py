"""A story read once, and everything that can be asked of it: the road of the command line.

Whatever exists is skipped, whatever is missing is made and kept at once; how a concept is learnt
or a picture drawn is the stages' own knowledge. Nothing here prints.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from storyforge.engine.engine import Engine, ledger_of
from storyforge.engine.opening import ClusterSpec
from storyforge.errors import (
    Diagnostic,
    EnvironmentProblem,
    InputChanged,
    Severity,
    StoryForgeError,
    closest,
)
from storyforge.executor import OnProgress, silent
from storyforge.geometry.box import Box
from storyforge.model.card import Card
from storyforge.modelref import ModelRef
from storyforge.plan.draft import draft_name, drafted
from storyforge.plan.pins import Pin, findings_in, mend, read_pins
from storyforge.plan.plan import Order, Plan, base_of, draw_up
from storyforge.plan.status import missing, subject_of
from storyforge.plan.takes import check_panels, picture_of, with_pins
from storyforge.project import approve, fused
from storyforge.project.again import Remade, remade
from storyforge.project.inspect import examine_unlearnt, inspected, learnt_cards
from storyforge.project.making import Making, Outcome, make, make_one
from storyforge.project.pack import Packed, pack
from storyforge.project.proofs import art_there, write_proofs
from storyforge.project.sheets import draw_sheet
from storyforge.project.survey import Survey, surveyed
from storyforge.provenance.found import found_boxes
from storyforge.settings import Format, Made
from storyforge.store import Store, write_whole
from storyforge.store.locks import FOREVER
from storyforge.story.keeping import with_found
from storyforge.story.story import Panel, Story, examined, sound, untranslated
from storyforge.train.logs import Logs

if TYPE_CHECKING:
    from storyforge.book.leaf import Art
    from storyforge.evaluate.story import StoryConfig, StoryReport

_log = logging.getLogger(__name__)


def _sought(panel: Panel) -> bool:
    """Whether some of its regions are found as it is drawn."""
    return panel.picture is None and any(region.auto for region in panel.regions.values())


_REREADINGS: Final = 2
"""How often a story is read again whose files somebody changes while they are used."""


class Project:
    """One story: its files are read once, and planned once for what is asked of it.

    Files that change afterwards are not looked at again, unless something is being made from them:
    open the project anew.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        store: Path | None = None,
        out: Path | None = None,
        wait: bool = True,
        cluster: ClusterSpec | None = None,
    ) -> None:
        """Name the story's file; it is read when something is asked.

        store  the folder of products; None for `.storyforge` beside the story
        out    the folder of books; None for `build` beside the story
        wait   whether to wait for what another run is making
        cluster  where concepts are learnt and pictures drawn; None for here
        """
        self.path = Path(path)
        patience = FOREVER if wait else 0.0
        self.store = Store(store or self.path.parent / ".storyforge", patience)
        self.out = out
        self.cluster = cluster
        self._plans: dict[Order, Plan] = {}

    @cached_property
    def _examined(self) -> tuple[Story | None, tuple[Diagnostic, ...]]:
        return examined(self.path)

    @property
    def story(self) -> Story:
        """The story; StoryError holds every mistake in it."""
        return sound(self.path, *self._examined)

    @cached_property
    def pins(self) -> dict[str, Pin]:
        """The pictures that are kept as they are, by panel."""
        return read_pins(self.story, self.store)

    @cached_property
    def base(self) -> ModelRef:
        """The model that the story is drawn with; if every picture is pinned it need not exist."""
        try:
            return base_of(self.story)
        except EnvironmentProblem:
            panels = [panel for _, panel in self.story.panels()]
            if not all(panel.picture or panel.id in self.pins for panel in panels):
                raise
            line = self.story.base_parts.reference
            return ModelRef(line, line)

    def plan(self, order: Order = Order()) -> Plan:
        """Every task of the story, with what is pinned; drawn up once for each order."""
        if order not in self._plans:
            drawn = draw_up(self.story, base=self.base, order=order)
            self._plans[order] = with_pins(drawn, self.pins)
            _log.debug("planned %s: %d panels", self.path, len(drawn.panels))
        return self._plans[order]

    def check(self) -> tuple[Diagnostic, ...]:
        """Every mistake and every warning: in the files, the pins, the pages, the pictures."""
        story, found = self._examined
        findings = (*found, *findings_in(self.path))
        if story is None or any(each.severity is Severity.ERROR for each in findings):
            return findings
        return tuple(sorted({*findings, *inspected(story)}))

    def status(self, order: Order = Order()) -> Survey:
        """Say what of the story is made, what is to be made and why; make nothing."""
        return surveyed(self.plan(order), self.store, self.base, self.pins)

    def train(
        self,
        concepts: Sequence[str] = (),
        *,
        jobs: int | None = None,
        logs: Logs | None = None,
        on_progress: OnProgress = silent,
    ) -> Outcome:
        """Learn the concepts named, or all; the story's pictures and books are left alone."""

        def asked() -> Plan:
            drawn = self.plan()
            self._check_concepts(concepts)
            wanted = tuple(task for task in drawn.train if not concepts or task.concept in concepts)
            return replace(drawn, train=wanted, fuse=None, panels=(), own=(), books=())

        return self._made(asked, self._how(jobs, logs=logs), on_progress)

    def examine(self, concepts: Sequence[str] = ()) -> tuple[Diagnostic, ...]:
        """What is wrong with the pictures that `train` would learn from; nothing if with none."""
        return examine_unlearnt(self.plan(), self.store, concepts)

    def learnt(self, concepts: Sequence[str] = ()) -> tuple[Card, ...]:
        """What the files of the concepts named, or of all, say of them; unlearnt are left out.

        Raises StoryForgeError for a name that the story does not have.
        """
        drawn = self.plan()
        self._check_concepts(concepts)
        return learnt_cards(drawn, self.store, concepts)

    def fuse(self, *, jobs: int | None = None, on_progress: OnProgress = silent) -> Outcome:
        """Learn the concepts that panels show and fuse them into one model."""

        def asked() -> Plan:
            drawn = self.plan()
            shown = dict(drawn.fuse.concepts) if drawn.fuse else {}
            wanted = tuple(task for task in drawn.train if task.concept in shown)
            return replace(drawn, train=wanted, panels=(), own=(), books=())

        return self._made(asked, self._how(jobs), on_progress)

    def fusion(self) -> fused.Fusion | None:
        """The fused model, made already; None if the story shows no concept."""
        return fused.fusion_of(self.plan(), self.store)

    def render(
        self,
        panels: Sequence[str] = (),
        *,
        formats: tuple[Format, ...] | None = None,
        language: str | None = None,
        steps: int | None = None,
        ppi: int | None = None,
        assets: bool = False,
        jobs: int | None = None,
        previews: Path | None = None,
        on_progress: OnProgress = silent,
    ) -> Outcome:
        """Make all that is missing, then the books; or these panels and what they need.

        panels    by id; all if none
        formats, language, steps, ppi, assets   as in `Order`
        jobs      concepts learnt at a time; None for as many as the machine has processors
        previews  a folder where every picture can be seen while it is drawn
        """

        def asked() -> Plan:
            drawn = self.plan(Order(formats, language, steps, ppi, assets))
            check_panels(drawn, panels)
            wanted = tuple(task for task in drawn.panels if not panels or task.panel in panels)
            return replace(drawn, panels=wanted)

        return self._made(asked, self._how(jobs, previews=previews), on_progress)

    def draft(
        self,
        panels: Sequence[str] = (),
        order: Order = Order(),
        *,
        real: Order = Order(),
        previews: Path | None = None,
        on_progress: OnProgress = silent,
    ) -> Outcome:
        """Draw drafts of the panels that have no picture by the embedded model, and bind the books.

        panels  by id, and then no book is bound; all if none
        real    how the pictures are drawn that drafts stand in for
        """
        there = self.drawn(real)
        asked, names = drafted(self.story, replace(order, steps=None), there, order.steps)
        asked = with_pins(asked, self.pins)
        names |= {task.key: draft_name(task) for task in asked.books}  # pins name them anew
        if panels:
            check_panels(asked, [name for name in panels if name not in there])
            wanted = tuple(task for task in asked.panels if task.panel in panels)
            asked = replace(asked, panels=wanted, own=(), books=())
        how = Making(self.out, previews=previews, names=names)
        outcome = make(asked, self.store, how, on_progress)
        # What a printer would say of drafts is no news.
        return replace(outcome, findings=())

    def drawn(self, order: Order = Order()) -> dict[str, str]:
        """The keys of the pictures that are drawn as the story asks, by panel."""
        try:
            tasks = self.plan(order).panels
        except EnvironmentProblem:
            return {}  # with a base that is not here nothing was drawn
        return {each.panel: each.key for each in tasks if self.store.has("panels", each.key)}

    def book(self, order: Order = Order(), *, on_progress: OnProgress = silent) -> Outcome:
        """Bind the books from pictures that exist."""
        asked = replace(self._complete(order), train=(), fuse=None, panels=())
        return make(asked, self.store, Making(self.out), on_progress)

    def run_task(
        self, key: str, order: Order = Order(), *, on_progress: OnProgress = silent
    ) -> Outcome:
        """Do one task of the plan, by its key; what it is made from must be there.

        Raises StoryForgeError for a key that the plan does not have.
        """
        return make_one(self.plan(order), key, self.store, self._how(None), on_progress)

    def remade(
        self,
        share: float,
        order: Order = Order(),
        *,
        chance: random.Random | None = None,
        on_progress: OnProgress = silent,
    ) -> tuple[Remade, ...]:
        """Make a random share of what is made again, beside it, and compare the bytes."""
        drawn, chance = self.plan(order), chance or random.Random()
        with self.store.at_work():
            return tuple(remade(drawn, self.store, share, chance, on_progress))

    def preflight(
        self, order: Order = Order(), *, on_progress: OnProgress = silent
    ) -> tuple[Diagnostic, ...]:
        """Whether the book is fit to print, as far as it is made: its pages, and its PDF."""
        drawn = self._complete(replace(order, formats=("pdf",)))
        engine = Engine(drawn, self.store, on_progress)
        with self.store.at_work():
            engine.maker.take_own(missing(drawn, self.store).own)
            return engine.books.judged(drawn.books, on_progress)

    def preview(
        self, formats: Sequence[str], *, language: str | None = None, with_art: bool = False
    ) -> tuple[Path, ...]:
        """Lay out every page as it will be bound, before anything is drawn; what shows it.

        formats   `png`, `pdf` and `html`
        with_art  whether pictures that are drawn already are shown beneath, as one's own are; shown
                  or not, balloons stand where the book will have them
        """
        order = Order(language=language)
        try:
            there = with_art or bool(self.pins) or self.store.root.is_dir()
            art = self._art(order, drawn=there)
        except EnvironmentProblem:
            if with_art:
                raise
            art = self._art(order, drawn=False)  # with a base that is not here nothing was drawn
        own = {panel.id for _, panel in self.story.panels() if panel.picture is not None}
        unshown = () if with_art else art.keys() - own
        return write_proofs(self.story, formats, language, art, self.out, unshown=unshown)

    def narrate(
        self,
        language: str | None = None,
        voice: str | None = None,
        *,
        on_progress: OnProgress = silent,
    ) -> tuple[Path, ...]:
        """Let a program read out the pages that have no recording; the new recordings.

        voice  one of espeak-ng's by name, or a Piper model (.onnx); None for the language's own
        """
        from storyforge.project.narrate import narrate

        made = narrate(self.story, language, voice, on_progress)
        self._forget()
        return made

    def sheet(self, order: Order = Order()) -> Path:
        """Lay every picture beside its concepts' reference pictures; the file that shows them."""
        return draw_sheet(self.plan(order), self.store, self.out)

    def takes(
        self,
        panels: Sequence[str],
        count: int,
        order: Order = Order(),
        *,
        how: Making | None = None,
        clip: str | None = None,
        on_progress: OnProgress = silent,
    ) -> approve.Takes:
        """Draw takes 0 to `count` - 1 of each panel, and lay them on a contact sheet."""
        how = how or self._how(None)
        return approve.draw_takes(
            self.plan(order), self.store, panels, count, how, on_progress, clip
        )

    def evaluate(
        self, config: StoryConfig | None = None, *, on_progress: OnProgress = silent
    ) -> StoryReport:
        """Judge every concept alone and fused, and the panels region by region."""
        from storyforge.evaluate.story import StoryConfig, evaluate_story

        asked = config or StoryConfig()
        return evaluate_story(self.plan(), self.store, self.base, asked, on_progress)

    def picture(self, panel: str) -> Path:
        """The picture that the books show of a panel.

        Raises StoryForgeError if the story has no such panel, or it is not drawn.
        """
        drawn = self.plan()
        keys = {task.panel: task.key for task in drawn.pictures()}
        if panel not in keys:
            check_panels(drawn, [panel])
        found = picture_of(drawn, self.store, panel, keys[panel])
        if found is None:
            hint = f"run `storyforge render {self.path} {panel}`"
            raise StoryForgeError(f"panel `{panel}` is not drawn, or changed since", hint=hint)
        return found

    def last_picture(self, panel: str) -> Path | None:
        """The picture that was last drawn of a panel, whatever was changed since; None without."""
        tasks = {task.panel: task for task in self.plan().panels}
        if panel not in tasks:
            return None
        entry = ledger_of(self.store, self.story).entries().get(subject_of(tasks[panel]))
        there = entry is not None and self.store.has("panels", entry.key)
        return self.store.path("panels", entry.key) if entry is not None and there else None

    def found(self, panels: Sequence[str] = ()) -> dict[str, Mapping[str, Box]]:
        """Where those were found whom `regions: auto` asks for: panel, region, box in its picture.

        panels  by id; all that are drawn if none is named

        Raises StoryForgeError if a panel that is named is not in the story, or not drawn.
        """
        if panels:
            return {name: found_boxes(self.picture(name)) for name in panels}
        asked = [panel.id for _, panel in self.story.panels() if _sought(panel)]
        there = {**self.pins, **self.drawn()} if asked else {}
        return {name: found_boxes(self.picture(name)) for name in asked if name in there}

    def keep_found(self, panels: Sequence[str] = ()) -> tuple[str, ...]:
        """Write the regions that were found into the story; of all drawn panels if none is named.

        Returns the panels that were changed. Their pictures are drawn anew unless they are pinned.
        """
        known = {panel.id: panel for _, panel in self.story.panels()}
        chosen = [name for name in panels if name not in known or _sought(known[name])]
        found = {} if panels and not chosen else self.found(chosen)
        if not found:
            drawn = " that is drawn" if any(map(_sought, known.values())) else ""
            hint = "`regions: auto` asks for them, and they are found while the panel is drawn"
            raise StoryForgeError(f"no panel{drawn} has regions that are found", hint=hint)
        text = self.path.read_bytes().decode()
        for name, boxes in found.items():
            text = with_found(text, known[name], boxes)
        write_whole(self.path, text.encode())
        self._forget_files()
        return tuple(found)

    def pick(self, panel: str, take: int) -> approve.Approval:
        """Approve one take of a panel: it is what the books show from now on."""
        done = approve.pick(self.plan(), self.store, panel, take)
        self._forget()
        return done

    def pin(self, panels: Sequence[str] = ()) -> tuple[approve.Approval, ...]:
        """Approve the pictures of panels as they are drawn now; of all that are, if none named."""
        done = approve.pin(self.plan(), self.store, panels)
        self._forget()
        return done

    def pin_picture(self, panel: str, file: Path, made: Made | None = None) -> approve.Approval:
        """Keep a picture that the author brings, retouched or drawn by hand, for a panel.

        made  who made it; None for what its file and what was drawn before tell
        """
        # Without the pins: the one that it replaces may be what was painted over.
        drawn = draw_up(self.story, base=self.base, order=Order())
        done = approve.pin_picture(drawn, self.store, panel, file, made)
        self._forget()
        return done

    def unpinned(self) -> tuple[str, ...]:
        """The panels that have no pinned picture, in the story's order."""
        return tuple(t.panel for t in self.plan().panels if t.panel not in self.pins)

    def mend_pins(self) -> tuple[str, ...]:
        """Write the list of pins anew from what is left of it, and from the pictures; its panels.

        What is lost of it, by a cut or a merge, lies beside the pictures as well.
        """
        mended = mend(self.story)
        self._forget()
        return mended

    def unpin(self, panels: Sequence[str] = ()) -> tuple[approve.Release, ...]:
        """Let go of pinned pictures, or of all if no panel is named."""
        done = approve.unpin(self.story, self.store, panels)
        self._forget()
        return done

    def untranslated(self, language: str | None) -> tuple[Diagnostic, ...]:
        """A warning for every text that an edition shows in the story's own language."""
        return untranslated(self.story, language) if language else ()

    def pack(self, out: Path | None = None, *, pictures: bool = True) -> Packed:
        """Put the story and all that belongs to it into one file, to be opened elsewhere.

        pictures  whether what the concepts were learnt from goes along
        """
        try:
            drawn = self.plan()
        except EnvironmentProblem:
            _log.info("the base is not here, so no products are packed")
            return pack(self.story, None, self.store, out, pictures=pictures)
        return pack(self.story, drawn, self.store, out, pictures=pictures)

    def _made(self, asked: Callable[[], Plan], how: Making, on_progress: OnProgress) -> Outcome:
        """Make what is asked; where a file was changed meanwhile, by what the story says now."""
        outcome = make(asked(), self.store, how, on_progress)
        for _ in range(_REREADINGS):
            if not any(isinstance(each.error, InputChanged) for each in outcome.troubles):
                break
            _log.info("files were changed meanwhile: reading %s again", self.path)
            self._forget_files()
            outcome = outcome.then(make(asked(), self.store, how, on_progress))
        return outcome

    def _how(
        self, jobs: int | None, *, logs: Logs | None = None, previews: Path | None = None
    ) -> Making:
        return Making(self.out, jobs, logs, previews, cluster=self.cluster)

    def _forget(self) -> None:
        """Plan anew when next asked: other pictures are pinned."""
        # Pins decide which pictures the books show, and with that the books' keys.
        self._plans.clear()
        self.__dict__.pop("pins", None)

    def _forget_files(self) -> None:
        """Read everything anew when next asked."""
        self._forget()
        for known in ("_examined", "base"):
            self.__dict__.pop(known, None)

    def _check_concepts(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.story.concepts:
                guess = closest(name, self.story.concepts)
                hint = f"did you mean `{guess}`?" if guess else None
                raise StoryForgeError(f"no concept named `{name}` in this story", hint=hint)

    def _complete(self, order: Order) -> Plan:
        """The plan; StoryForgeError names the pictures that are missing."""
        drawn = self.plan(order)
        pairs = [(task.panel, task.key) for task in drawn.panels]
        lacking = [name for name, key in pairs if not picture_of(drawn, self.store, name, key)]
        if lacking:
            names = ", ".join(f"`{name}`" for name in lacking)
            hint = f"run `storyforge render {self.path}`"
            raise StoryForgeError(f"not drawn, or changed since: {names}", hint=hint)
        return drawn

    def _art(self, order: Order, *, drawn: bool) -> dict[str, Art]:
        """The author's own pictures by panel, and if wanted those that are drawn already."""
        if not drawn and not any(panel.picture for _, panel in self.story.panels()):
            return {}
        return art_there(self.plan(order), self.store, drawn=drawn)
