"""A concept from words alone: candidates are drawn, a set that shows one and the same is chosen.

AutoStory makes its own pictures of a character; here the base draws many of one description, in
several views and poses, a CLIP leaves out those that show something else, and the tightest group of
the rest is kept, with masks of where the model looked for the word. All that is drawn is kept at
once: a run that is killed goes on where it was. Nothing is learnt yet.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

from storyforge.contact_sheet import Cell, write_contact_sheet
from storyforge.errors import Diagnostic, StoryForgeError
from storyforge.executor import OnProgress
from storyforge.geometry.box import Box
from storyforge.geometry.pose import Stand
from storyforge.modelref import ADAPTERS, ModelRef, base_at, own_adapter
from storyforge.pictures import beside
from storyforge.project.candidates import (
    FOLDER,
    Choice,
    Seen,
    drawn_at,
    keep_set,
    mask_at,
    read_candidates,
    read_choice,
    write_choice,
)
from storyforge.project.inspect import examine_folder
from storyforge.settings import Kind
from storyforge.store import write_whole
from storyforge.story.described import Asked, class_in, pictures_of
from storyforge.story.edit import quoted
from storyforge.tasks import ControlTask, PanelTask

if TYPE_CHECKING:
    from storyforge.metrics.clip import Clip, Vectors

_STANDS: Final = Box(x0=0.2, y0=0.1, x1=0.8, y1=0.97)
"""Where a body is that is alone in its picture."""

_SPEAKS: Final = 0.6
"""Part of the steps in which a pose is held: details are the model's own."""

_LEFT: Final = 2 / 3
"""The part of the candidates that show the description best; the others are left out."""

_EDGE: Final = 0.06
"""Around a subject, as a part of the picture, when it is compared with others."""


@dataclass(frozen=True, slots=True)
class Description:
    """What is asked for.

    folder    of the concept; its name is the concept's
    words     what it looks like
    class_    the everyday word for it; None for the one that stands in `words`
    adapter   that reads poses: a folder or hub id; None for the base's own, if it has one
    clip      that chooses; None for the base's own
    """

    folder: Path
    words: str
    kind: Kind = "character"
    class_: str | None = None
    base: str = "pocket"
    style: str = ""
    candidates: int = 24
    keep: int = 8
    seed: int = 0
    steps: int | None = None
    adapter: str | None = None
    clip: str | None = None

    @property
    def word(self) -> str:
        """The class; StoryForgeError if the words hold none."""
        found = self.class_ or class_in(self.words)
        if not found:
            message = f"“{self.words}” holds no word for what it is"
            raise StoryForgeError(message, hint="say it: `--class fox`")
        return found


@dataclass(frozen=True, slots=True)
class ConceptDraft:
    """What came of it.

    drawn        pictures that this run drew
    consistency  mean cosine of the pairs that were chosen, and of all candidates
    text         how well the chosen ones show the description
    findings     what is wrong with them, as `concept check` says
    sheet        shows all candidates
    """

    folder: Path
    word: str
    seen: tuple[Seen, ...]
    drawn: int
    consistency: tuple[float, float]
    text: float
    findings: tuple[Diagnostic, ...]
    sheet: Path


def describe(asked: Description, on_progress: OnProgress) -> ConceptDraft:
    """Draw what is missing, choose unless that is done, and write the concept's folder.

    Raises StoryForgeError for a folder that holds something else, EnvironmentProblem without a
    CLIP.
    """
    from storyforge.evaluate.judge import clip_for
    from storyforge.metrics.alignment import among_themselves

    base = base_at(asked.base, Path.cwd())
    pictures = pictures_of(asked.kind, asked.words, asked.style, asked.candidates)
    wanted = _wanted(asked, base, [each.prompt for each in pictures])
    seen, judge = _there(asked, wanted), read_choice(asked.folder)
    named = asked.clip or (judge.clip if seen and judge else None)
    clip = clip_for(base.reference, named)  # before anything is written or drawn in vain
    with _begun(asked, wanted):
        drawn = _draw(asked, base, pictures, on_progress)
    on_progress("judging", 0, 1)
    vectors = _looked_at(asked, clip)
    if not seen:
        chosen = _chosen(asked, pictures, vectors, clip)
        numbers = tuple(each.number for each in chosen if each.chosen)
        write_choice(asked.folder, Choice(_whole(named), numbers))
        seen = keep_set(asked.folder, chosen)
    _write_concept(asked)
    on_progress("judging", 1, 1)
    rows = [each.number - 1 for each in seen if each.chosen]
    texts = [each.text for each in seen if each.chosen]
    report = examine_folder(asked.folder, base.reference)
    return ConceptDraft(
        folder=asked.folder,
        word=asked.word,
        seen=seen,
        drawn=drawn,
        consistency=(among_themselves(vectors[rows]), among_themselves(vectors)),
        text=sum(texts) / len(texts),
        findings=tuple(report.findings),
        sheet=_sheet(asked.folder, seen),
    )


def _wanted(asked: Description, base: ModelRef, prompts: Sequence[str]) -> str:
    """All that decides about the candidates, as it is written down."""
    told = {"words": asked.words, "kind": asked.kind, "class": asked.word, "base": base.hash}
    told |= {"seed": str(asked.seed), "steps": str(asked.steps), "adapter": str(asked.adapter)}
    return json.dumps({**told, "prompts": prompts, "keep": asked.keep}, indent=1)


_ASKED: Final = "asked.json"


def _same(asked: Description, wanted: str) -> bool:
    """Whether the folder was begun with just this."""
    path = asked.folder / FOLDER / _ASKED
    return path.is_file() and path.read_text(encoding="utf-8") == wanted


def _there(asked: Description, wanted: str) -> tuple[Seen, ...]:
    """The candidates if a choice was made that still holds; none if it is to be made.

    Raises StoryForgeError for a folder that holds something else, or a choice made by hand where
    another CLIP is asked to choose.
    """
    folder, seen = asked.folder, read_candidates(asked.folder)
    if not _same(asked, wanted):
        if seen:
            message = f"`{folder}` was begun with other words or settings"
            raise StoryForgeError(message, hint="name another folder, or remove this one")
        # What a try left that never came to a choice is nobody's.
        others = folder.is_dir() and any(each.name != FOLDER for each in folder.iterdir())
        if others or (folder.exists() and not folder.is_dir()):
            raise StoryForgeError(f"`{folder}` is not empty", hint="choose another name")
        return ()
    judge = read_choice(folder)
    if not seen or asked.clip is None or (judge and judge.clip == _whole(asked.clip)):
        return seen
    if judge is None or {*judge.chosen} != {each.number for each in seen if each.chosen}:
        message = f"`{folder}`: its pictures were chosen by hand, not by a CLIP"
        hint = "leave out `--clip`, or choose others by `storyforge concept choose`"
        raise StoryForgeError(message, hint=hint)
    return ()


def _whole(clip: str | None) -> str | None:
    """A CLIP's name wherever storyforge was started."""
    return str(Path(clip).resolve()) if clip and Path(clip).exists() else clip


@contextmanager
def _begun(asked: Description, wanted: str) -> Iterator[None]:
    """Have it written down what is asked for, and what was drawn otherwise gone; without a single
    picture in the end, nothing is left that would take the name."""
    hidden = asked.folder / FOLDER
    if not _same(asked, wanted):
        if hidden.is_dir():
            shutil.rmtree(hidden)
        write_whole(hidden / _ASKED, wanted.encode())
    try:
        yield
    finally:
        if not any(hidden.glob("*.png")):
            shutil.rmtree(hidden)
            with suppress(OSError):  # it is the author's, or there are others beside it
                asked.folder.rmdir()


def _draw(
    asked: Description, base: ModelRef, pictures: Sequence[Asked], on_progress: OnProgress
) -> int:
    """Draw the candidates that are not there; how many."""
    lacking = [n for n in range(1, len(pictures) + 1) if not drawn_at(asked.folder, n).is_file()]
    if not lacking:
        return 0
    from storyforge.engine.stages import opened
    from storyforge.sample.candidates import draw_candidate
    from storyforge.sample.control import Rack

    tasks = {number: _task(asked, base, pictures[number - 1], number) for number in lacking}
    model = opened(tasks[lacking[0]])
    rack, word = Rack(model), None if asked.kind == "scene" else asked.word
    for done, (number, task) in enumerate(tasks.items()):
        on_progress(f"drawing {task.panel}", done, len(lacking))
        made = draw_candidate(model, rack, task, word, lambda *_: None)
        if made.mask is not None:
            write_whole(mask_at(asked.folder, number), _png(made.mask))
        # Last: whoever finds the picture finds its mask as well.
        write_whole(drawn_at(asked.folder, number), _png(made.picture))
    on_progress("drawing", len(lacking), len(lacking))
    return len(lacking)


def _task(asked: Description, base: ModelRef, picture: Asked, number: int) -> PanelTask:
    return PanelTask(
        key="",
        panel=f"candidate {number} of {asked.candidates}",
        page=1,
        base=base.reference,
        base_hash=base.hash,
        fused=None,
        prompt=picture.prompt,
        negative="",
        regions=(),
        size=None,
        steps=asked.steps,
        guidance_scale=None,
        scheduler=None,
        region_blend=1.0,
        seed=asked.seed * 100_000 + number,
        alt=None,
        controls=_controls(asked, base, picture),
    )


def _controls(asked: Description, base: ModelRef, picture: Asked) -> tuple[ControlTask, ...]:
    """The pose, where there is one and an adapter that reads it."""
    named = asked.adapter or own_adapter(base.reference, "pose")
    if picture.pose is None or named is None:
        return ()
    folder = beside(Path.cwd(), named)
    if named.startswith("pocket/") and not folder.is_dir():
        folder = ADAPTERS / named.removeprefix("pocket/")
    adapter = folder if folder.is_dir() else named
    stand = Stand(_STANDS, picture.pose, picture.facing)
    return (ControlTask(adapter, None, end=_SPEAKS, draw="pose", stands=(stand,)),)


def _png(picture: Image.Image) -> bytes:
    made = BytesIO()
    picture.save(made, "PNG", optimize=True)
    return made.getvalue()


def _looked_at(asked: Description, clip: Clip) -> Vectors:
    """(n, d): what each candidate shows where its subject is."""
    return clip.pictures([_cut(asked.folder, n) for n in range(1, asked.candidates + 1)])


def _cut(folder: Path, number: int) -> Image.Image:
    """The subject with a little of what is around it; the whole picture without a mask."""
    with Image.open(drawn_at(folder, number)) as file:
        picture = file.convert("RGB")
    if not mask_at(folder, number).is_file():
        return picture
    with Image.open(mask_at(folder, number)) as file:
        box = file.convert("L").getbbox()
    if box is None:
        return picture
    more = round(_EDGE * max(picture.size))
    left, top, right, bottom = box
    edges = (max(0, left - more), max(0, top - more))
    return picture.crop(
        (*edges, min(picture.width, right + more), min(picture.height, bottom + more))
    )


def _chosen(
    asked: Description, pictures: Sequence[Asked], vectors: Vectors, clip: Clip
) -> list[Seen]:
    """Every candidate with what is thought of it; the tightest group of those that obey."""
    from storyforge.metrics.alignment import image_alignment, text_alignment
    from storyforge.metrics.consistency import tightest

    read = clip.words([asked.words])
    texts = [text_alignment(vectors[n : n + 1], read) for n in range(len(vectors))]
    left = max(asked.keep, ceil(_LEFT * len(vectors)))
    obedient = sorted(sorted(range(len(vectors)), key=lambda n: -texts[n])[:left])
    rows = [obedient[n] for n in tightest(vectors[obedient], asked.keep)]
    alike = [image_alignment(vectors[n : n + 1], vectors[rows]) for n in range(len(vectors))]
    return [
        Seen(
            number=n + 1,
            caption=each.caption,
            prompt=each.prompt,
            text=round(texts[n], 4),
            alike=round(alike[n], 4),
            chosen=n in rows,
        )
        for n, each in enumerate(pictures)
    ]


def _write_concept(asked: Description) -> None:
    """Write concept.yaml, unless the author has one."""
    path = asked.folder / "concept.yaml"
    if not path.is_file():
        lines = [
            "# Made from words by `storyforge concept new`; all candidates lie in `.candidates`.",
            "storyforge: 1",
            f"kind: {asked.kind}",
            f"class: {quoted(asked.word)}",
            f"description: {quoted(asked.words)}",
        ]
        write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def _sheet(folder: Path, seen: Sequence[Seen]) -> Path:
    """All candidates on one picture, those that are chosen in a frame."""
    cells = [
        Cell(
            drawn_at(folder, each.number),
            f"{each.number}" + (", chosen" if each.chosen else ""),
            f"alike {each.alike:.2f}, obedient {each.text:.2f}",
            chosen=each.chosen,
        )
        for each in seen
    ]
    rows = [("" if n else folder.name, cells[n : n + 6]) for n in range(0, len(cells), 6)]
    return write_contact_sheet(rows, folder / FOLDER / "sheet.png")
