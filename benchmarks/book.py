"""How long an edited caption takes until the finished books lie there, as one who types waits.

Copies the sample story to a new folder, gives it the golden panels as its drawn pictures (no model
is needed), and runs `storyforge book` as a command, with a changed caption each time: for the books
that the story asks for (PDF and HTML), and for PDF, HTML, EPUB and CBZ. Run as
`python -m benchmarks.book --json` from the repository.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import pikepdf

from storyforge.plan.plan import base_of, draw_up
from storyforge.store import Store
from storyforge.story import story as stories
from storyforge.story.scaffold import scaffold

_PANELS: Final = Path(__file__).parents[1] / "tests" / "goldens" / "fox-and-lantern" / "panels"
_CAPTION: Final = "always full."
"""Words of the first page, to which some are added."""

_FORMATS: Final = ("pdf", "html", "epub", "cbz")


Bind = Callable[..., float]
"""Binds a story's books by a command with some words more; its seconds."""


def prepare(folder: Path) -> Path:
    """A story in `folder` with every picture drawn; its file."""
    path = scaffold(folder)
    story = stories.read(path)
    store = Store(path.parent / ".storyforge")
    for task in draw_up(story, base=base_of(story)).panels:
        with store.make("panels", task.key) as made:
            shutil.copyfile(_PANELS / f"{task.panel}.png", made)
    return path


def set_book(story: Path, *words: str) -> float:
    """Run the whole command; its seconds."""
    command = [sys.executable, "-m", "storyforge", "book", str(story), *words]
    started = perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return perf_counter() - started


def measure(
    rounds: int, formats: Sequence[str] = _FORMATS, bound: Bind = set_book
) -> dict[str, float]:
    """Median seconds of an edit, for the story's own books and for all, and pages a second.

    bound  runs the command that is measured
    """
    every = ("--to", ",".join(formats))
    with TemporaryDirectory(prefix="storyforge-benchmark-") as folder:
        story = prepare(Path(folder) / "demo")
        bound(story, *every)
        own, all_ = [], []
        for number in range(rounds):
            _edit(story, f"Night {2 * number + 1}.")
            own.append(bound(story))
            _edit(story, f"Night {2 * number + 2}.")
            all_.append(bound(story, *every))
        with pikepdf.open(next((story.parent / "build").glob("*.pdf"))) as pdf:
            pages = len(pdf.pages) * len(formats)
    return {
        "caption_edit_seconds": round(median(own), 3),
        "all_formats_seconds": round(median(all_), 3),
        "pages_per_second": round(pages / median(all_), 2),
    }


def _edit(story: Path, words: str) -> None:
    text = story.read_text(encoding="utf-8")
    if _CAPTION not in text:
        raise SystemExit(f"the sample story does not say `{_CAPTION}` any more")
    story.write_text(text.replace(_CAPTION, f"{_CAPTION} {words}", 1), encoding="utf-8")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="edits to take the median of [5]")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    found = measure(asked.rounds)
    if asked.json:
        print(json.dumps(found))
    else:
        print(f"caption edit to the story's books: {found['caption_edit_seconds']:.2f} s")
        print(f"to {', '.join(_FORMATS)}: {found['all_formats_seconds']:.2f} s")
        print(f"pages a second: {found['pages_per_second']:.1f}")


if __name__ == "__main__":
    main()
