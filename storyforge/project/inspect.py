"""Looking before hours are spent: at a story's pages and prompts, at concepts and their pictures.

Opens no model. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from storyforge.contact_sheet import Cell, write_contact_sheet
from storyforge.errors import Diagnostic, StoryForgeError
from storyforge.model.card import Card
from storyforge.modelref import picture_size
from storyforge.pictures import ConceptPicture, mask_of, on_paper, open_picture
from storyforge.plan.panels import control_findings
from storyforge.plan.plan import Plan
from storyforge.store import Store
from storyforge.story.concept import ConceptSpec, read_concept
from storyforge.story.story import Story
from storyforge.tasks import ImportTask, TrainTask
from storyforge.train.report import DataReport, ExaminedPicture, examine_pictures, refusals

_COLUMNS: Final = 6

_DIM: Final = 0.25
"""What is left of the colours outside a mask."""


def examine_folder(folder: Path, base: str) -> DataReport:
    """What is wrong with the pictures of a concept's folder, or of a bare folder of pictures.

    Raises:
      StoryForgeError: if there is no such folder, or its concept.yaml has mistakes.
    """
    folder = folder.parent if folder.name == "concept.yaml" else folder
    if (folder / "concept.yaml").is_file():
        spec = read_concept(folder)
        shaped = bool(spec.train.buckets)
        return examine_pictures(
            spec.pictures(), name=spec.name, side=picture_side(base), shaped=shaped
        )
    return examine_pictures(folder, name=folder.resolve().name, side=picture_side(base))


def examine_task(task: TrainTask) -> DataReport:
    """The same for a concept that is about to be learnt."""
    shaped, side = bool(task.settings.buckets), picture_side(task.base)
    return examine_pictures(task.folder, name=task.concept, side=side, shaped=shaped)


def examine_unlearnt(drawn: Plan, store: Store, concepts: Sequence[str]) -> tuple[Diagnostic, ...]:
    """The same for those of the concepts named, or of all, that a plan has yet to learn."""
    wanted = [task for task in drawn.train if not concepts or task.concept in concepts]
    unlearnt = [task for task in wanted if not store.has("concepts", task.key)]
    return tuple(found for task in unlearnt for found in examine_task(task).findings)


def inspected(story: Story) -> Iterator[Diagnostic]:
    """What is wrong with a story whose files are sound: control, prompts, pages, pictures."""
    # Typesetting and counting of tokens are waited for by those alone who ask for them.
    from storyforge.book.fit import fit_findings
    from storyforge.plan.prompt_length import prompt_findings

    yield from control_findings(story)
    yield from prompt_findings(story)
    yield from fit_findings(story)
    for spec in story.concepts.values():
        if isinstance(spec, ConceptSpec):
            yield from refusals(spec.pictures(), spec.train)


def learnt_cards(drawn: Plan, store: Store, concepts: Sequence[str]) -> tuple[Card, ...]:
    """What the files of the concepts named, or of all, say of them; unlearnt are left out."""
    made: tuple[TrainTask | ImportTask, ...] = (*drawn.train, *drawn.imports)
    files = {
        task.concept: store.path("concepts", task.key)
        for task in made
        if store.has("concepts", task.key)
    }
    taken, known = {task.concept for task in drawn.imports}, drawn.story.concepts
    given = [each for each in known.items() if each[0] not in taken]
    files |= {name: spec for name, spec in given if isinstance(spec, Path)}
    return tuple(Card.read(files[name]) for name in concepts or known if name in files)


def picture_side(base: str) -> int:
    """The side in pixels of the pictures that a base learns from."""
    return min(picture_size(base).sides)


def draw_sheet(report: DataReport, path: Path) -> Path:
    """Write all pictures of a report as one PNG, dim outside their masks, with what was found.

    Raises:
      StoryForgeError: if there is nothing to show.
    """
    if not report.seen:
        raise StoryForgeError(f"there is no picture to show in `{report.folder}`")
    cells = [_cell(report, seen) for seen in report.seen]
    rows = [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]
    title = f"{report.folder.name}: {len(cells)} pictures"
    titled = [(title if not n else "", row) for n, row in enumerate(rows)]
    return write_contact_sheet(titled, path)


def _cell(report: DataReport, seen: ExaminedPicture) -> Cell:
    picture = open_picture(report.folder / seen.file)
    flat = on_paper(picture)
    mask = None
    if seen.masked is not None:
        mask = mask_of(report.folder, ConceptPicture(seen.file, seen.mask, ()), picture)
    if mask is not None:
        dim = Image.blend(Image.new("RGB", flat.size, "white"), flat, _DIM)
        flat = Image.composite(flat, dim, mask.resize(flat.size))
    codes = report.codes(seen)
    return Cell(flat, " ".join([seen.file, *codes]), bad=bool(codes))
