"""Looking at concepts: at the pictures before they are learnt from, at the file afterwards.

Opens no model. Nothing here prints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image

from storyforge.contact_sheet import Cell, write_contact_sheet
from storyforge.errors import StoryForgeError
from storyforge.modelref import picture_size
from storyforge.pictures import ConceptPicture, mask_of, on_paper, open_picture
from storyforge.story.concept import read_concept
from storyforge.tasks import TrainTask
from storyforge.train.report import DataReport, ExaminedPicture, examine_pictures

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
