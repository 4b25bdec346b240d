"""Regression renders: a story's pictures, small, beside those that were once looked at and kept.

A folder of goldens holds `concepts/NAME.safetensors`, learnt once so that only fusion and drawing
are judged, `panels/ID.png`, and `golden.json`. Pictures are always drawn anew. Whether training
works is not told here: it is judged by its losses and weights, which no picture shows.

    python tests/golden.py check stories/fox-and-lantern.yaml
    python tests/golden.py update stories/fox-and-lantern.yaml --reason "what changed"
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

from PIL import Image

from storyforge import __version__
from storyforge.engine.engine import Engine
from storyforge.engine.maker import raise_first
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import OnProgress, silent
from storyforge.metrics.image_diff import (
    ImageDifference,
    PictureChange,
    Pixels,
    compare,
    read_pixels,
    write_changes,
)
from storyforge.modelref import picture_size
from storyforge.plan.keys import canonical, drawn_from, key_of
from storyforge.plan.plan import Plan, base_of, draw_up
from storyforge.project.project import Project
from storyforge.store import Store, write_whole
from storyforge.story import story as stories

_FORMAT: Final = 1

_SIZE: Final = (192, 192)
_STEPS: Final = 10
"""Width and height in pixels, and denoising steps, where `golden.json` says nothing else: small
enough for every commit, large enough for every region to have cells of its own at every level."""


@dataclass(frozen=True, slots=True)
class GoldenRecord:
    """What `golden.json` says.

    base_hash  of the base that the goldens were drawn with
    size       width and height in pixels
    reason     why the goldens were last renewed
    versions   of storyforge and of what decides about pixels
    """

    base_hash: str
    size: tuple[int, int]
    steps: int
    reason: str
    versions: Mapping[str, str]


VerdictKind = Literal["equal", "alike", "different", "new", "gone"]
"""`new`: the story has the panel and the goldens do not; `gone`: the other way round."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one panel; without `difference` there are not two pictures of one size."""

    panel: str
    said: VerdictKind
    difference: ImageDifference | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """Every panel compared with its golden.

    sheet  the picture that shows what changed, if anything did
    note   what else is not as it was when the goldens were drawn
    """

    folder: Path
    verdicts: tuple[Verdict, ...]
    sheet: Path | None
    note: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every panel is equal to its golden, or as alike as two machines draw it."""
        return all(verdict.said in {"equal", "alike"} for verdict in self.verdicts)


def folder_of(path: Path) -> Path:
    """Where a story's goldens lie: `tests/goldens/<its name>` in the project it is a part of."""
    return path.absolute().parent.parent / "tests" / "goldens" / path.stem


def check(path: Path, on_progress: OnProgress = silent) -> Review:
    """Draw every panel with the fixtures and compare it with its golden.

    A difference is shown in `changes.png` beside the goldens. Raises EnvironmentProblem if there
    are no goldens, or if they or a fixture belong to another base.
    """
    folder, planned = folder_of(path), _planned(path)
    remedy = f"run `python tests/golden.py update {path} --reason …`"
    record = read_record(folder)
    if record is None:
        raise EnvironmentProblem(f"no goldens in `{folder}`", hint=remedy)
    base_hash = base_of(planned.story).hash
    if record.base_hash != base_hash:
        message = f"the goldens in `{folder}` were drawn with another base"
        was = f"it was {record.base_hash[:12]} and is {base_hash[:12]}; {remedy}"
        raise EnvironmentProblem(message, hint=was)
    if stale := _stale(planned, folder):
        names = ", ".join(f"`{name}`" for name in stale)
        message = f"no fixture for this base in `{folder / 'concepts'}` of {names}"
        raise EnvironmentProblem(message, hint=remedy)
    with TemporaryDirectory(prefix="storyforge-") as scratch:
        drawn = draw_goldens(
            reduced(planned, record), folder / "concepts", Store(Path(scratch)), on_progress
        )
        verdicts = tuple(compared(folder, drawn))
        review = Review(folder, verdicts, None, _note(record))
        return review if review.passed else replace(review, sheet=_sheet(folder, verdicts, drawn))


def update(path: Path, reason: str, on_progress: OnProgress = silent) -> Review:
    """Learn the fixtures that are missing or of another base, draw every panel, and keep it all.

    A fixture stays as long as its base: remove it to have it learnt anew. Concepts are learnt in
    the story's own store. The review compares with the goldens that were replaced; their
    `changes.png` is for the eye and not to be kept.
    """
    if not reason.strip():
        raise StoryForgeError("goldens are not renewed without a reason", hint="say why")
    folder, planned = folder_of(path), _planned(path)
    base_hash = base_of(planned.story).hash
    was = read_record(folder)
    size, steps = (was.size, was.steps) if was else (_SIZE, _STEPS)
    record = GoldenRecord(base_hash, size, steps, reason.strip(), _versions())
    if stale := _stale(planned, folder):
        _learn(Project(path), stale, folder / "concepts", on_progress)
    with TemporaryDirectory(prefix="storyforge-") as scratch:
        drawn = draw_goldens(
            reduced(planned, record), folder / "concepts", Store(Path(scratch)), on_progress
        )
        verdicts = tuple(compared(folder, drawn))
        (folder / "changes.png").unlink(missing_ok=True)
        review = Review(folder, verdicts, _sheet(folder, verdicts, drawn))
        _keep(folder, verdicts, drawn)
    _tidy(folder / "concepts", planned)
    content = {"golden": _FORMAT, "story": path.name, **asdict(record)}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / "golden.json", text.encode())
    return review


def read_record(folder: Path) -> GoldenRecord | None:
    """What `golden.json` in the folder says; None if there is none.

    Raises EnvironmentProblem if it cannot be read.
    """
    path = folder / "golden.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise EnvironmentProblem(f"cannot read `{path}`: {exc}") from exc
    match content:
        case {
            "golden": 1,
            "base_hash": str(base_hash),
            "size": [int(width), int(height)],
            "steps": int(steps),
            "reason": str(reason),
            "versions": dict(versions),
        }:
            return GoldenRecord(base_hash, (width, height), steps, reason, versions)
    raise EnvironmentProblem(f"`{path}` is not what this version of storyforge writes")


def reduced(planned: Plan, record: GoldenRecord) -> Plan:
    """The plan with every panel at the goldens' size and steps, under keys that say so.

    Prompts, regions and seeds are the story's.
    """
    # As few pixels a cell as there are: many cells are what regions need.
    sizes = {task.base: min(picture_size(task.base).sides) for task in planned.panels}
    panels = [
        replace(task, size=record.size, decode=sizes[task.base], steps=record.steps)
        for task in planned.panels
    ]
    keyed = tuple(replace(task, key=key_of(drawn_from(task))) for task in panels)
    said = {task.key: json.loads(canonical(drawn_from(task))) for task in keyed}
    return replace(planned, panels=keyed, key_inputs={**planned.key_inputs, **said})


def draw_goldens(
    planned: Plan, fixtures: Path, store: Store, on_progress: OnProgress
) -> dict[str, Path]:
    """Every panel's picture, by id, in `store`; fixtures stand in for what would be learnt.

    Raises what went wrong first.
    """
    for name, key in _shown(planned).items():
        if not store.has("concepts", key):
            with store.make("concepts", key) as out:
                shutil.copyfile(_fixture(fixtures, name), out)
    engine = Engine(planned, store, on_progress)
    engine.fuse(planned.fuse)
    engine.draw(planned.panels)
    raise_first(engine.maker.troubles)
    return {task.panel: store.path("panels", task.key) for task in planned.panels}


def compared(folder: Path, drawn: Mapping[str, Path]) -> Iterator[Verdict]:
    """A verdict on every panel that is drawn, then on every golden without one."""
    for panel, path in drawn.items():
        kept = _golden(folder, panel)
        if not kept.is_file():
            yield Verdict(panel, "new")
            continue
        old, new = _pixels(kept), _pixels(path)
        if old.shape != new.shape:
            yield Verdict(panel, "different")
            continue
        found = compare(old, new)
        said: VerdictKind = "equal" if found.equal else "alike" if found.similar else "different"
        yield Verdict(panel, said, found)
    for path in sorted((folder / "panels").glob("*.png")):
        if path.stem not in drawn:
            yield Verdict(path.stem, "gone")


def _planned(path: Path) -> Plan:
    story = stories.read(path)
    return draw_up(story, base=base_of(story))


def _shown(planned: Plan) -> dict[str, str]:
    """The keys of the concepts that panels show and that have to be learnt, by name."""
    shown = dict(planned.fuse.concepts) if planned.fuse else {}
    return {task.concept: task.key for task in planned.train if task.concept in shown}


def _fixture(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _stale(planned: Plan, folder: Path) -> list[str]:
    """The concepts without a fixture that was learnt on the story's base."""
    from storyforge.model.concept import Concept

    base_hash = base_of(planned.story).hash
    paths = {name: _fixture(folder / "concepts", name) for name in _shown(planned)}
    return [
        name
        for name, path in paths.items()
        if not path.is_file() or Concept.load(path).base_hash != base_hash
    ]


def _learn(project: Project, names: Sequence[str], folder: Path, on_progress: OnProgress) -> None:
    """Learn concepts as `storyforge train` does, and keep them as fixtures."""
    outcome = project.train(names, on_progress=on_progress)
    raise_first(outcome.troubles)
    for name, key in _shown(project.plan()).items():
        if name in names:
            write_whole(_fixture(folder, name), project.store.path("concepts", key).read_bytes())


def _golden(folder: Path, panel: str) -> Path:
    return folder / "panels" / f"{panel}.png"


def _pixels(path: Path) -> Pixels:
    try:
        return read_pixels(path)
    except OSError as exc:
        raise EnvironmentProblem(f"cannot read the picture `{path}`: {exc}") from exc


def _sheet(folder: Path, verdicts: Sequence[Verdict], drawn: Mapping[str, Path]) -> Path | None:
    """Show every panel that has another picture than its golden; None if there is none."""
    changes = [
        PictureChange(verdict.panel, _golden(folder, verdict.panel), drawn[verdict.panel])
        for verdict in verdicts
        if verdict.said in {"alike", "different"}
    ]
    if not changes:
        return None
    return write_changes(changes, folder / "changes.png")


def _keep(folder: Path, verdicts: Sequence[Verdict], drawn: Mapping[str, Path]) -> None:
    """Put the pictures in the goldens' place; files whose pixels are the same stay untouched."""
    for verdict in verdicts:
        kept = _golden(folder, verdict.panel)
        if verdict.said == "gone":
            kept.unlink()
        elif verdict.said != "equal":
            bare = BytesIO()
            Image.fromarray(_pixels(drawn[verdict.panel])).save(bare, "PNG", optimize=True)
            write_whole(kept, bare.getvalue())


def _tidy(folder: Path, planned: Plan) -> None:
    """Remove the fixtures of concepts that no panel shows any more."""
    wanted = {_fixture(folder, name) for name in _shown(planned)}
    for path in folder.glob("*.safetensors"):
        if path not in wanted:
            path.unlink()


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    return {"storyforge": __version__, **libraries}


def _note(record: GoldenRecord) -> str | None:
    """What versions differ from those that drew the goldens."""
    now = _versions()
    others = [
        f"{name} {was}, now {now[name]}"
        for name, was in record.versions.items()
        if name in now and now[name] != was
    ]
    return f"the goldens were drawn with {'; '.join(others)}" if others else None


def told(review: Review) -> str:
    """How much each panel differs from its golden, in 1/255, one a line."""
    lines = [f"{'panel':20} {'max':>4} {'mean':>7} {'ssim':>7}  verdict"]
    for each in review.verdicts:
        seen = each.difference
        figures = f"{seen.largest:4} {seen.mean:7.3f} {seen.ssim:7.4f}" if seen else f"{'-':>20}"
        lines.append(f"{each.panel:20} {figures}  {each.said}")
    lines += [review.note] if review.note else []
    lines += [f"old, new and difference: {review.sheet}"] if review.sheet else []
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Compare or renew the goldens of a story; 1 where a picture is not as it was."""
    parser = argparse.ArgumentParser(description="Compare a story's pictures with those kept.")
    parser.add_argument("verb", choices=["check", "update"])
    parser.add_argument("story", type=Path)
    parser.add_argument("--reason", default="", help="why they change")
    asked = parser.parse_args(words)

    def hear(what: str, done: int, of: int) -> None:
        """Say how far it is."""
        sys.stderr.write(f"{what} {done}/{of}\n")

    try:
        if asked.verb == "update":
            review = update(asked.story, asked.reason, hear)
        else:
            review = check(asked.story, hear)
    except StoryForgeError as exc:
        parser.exit(exc.exit_code, f"{exc.message}; {exc.hint}\n")
    sys.stdout.write(f"{told(review)}\n")
    return 0 if asked.verb == "update" or review.passed else 1


if __name__ == "__main__":
    sys.exit(main())
