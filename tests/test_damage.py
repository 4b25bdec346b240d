"""Real stages on damaged products: whatever was damaged, the end is what it would have been."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny import save_base
from tinystory import products, write_story

from storyforge.project.project import Project
from storyforge.store.sums import note_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A story of which everything is made."""
    folder = tmp_path_factory.mktemp("finished")
    save_base(folder / "base")
    story = write_story(folder / "story", panels=1)
    assert not Project(story).render(jobs=1).troubles
    return story


def zeroed(path: Path) -> None:
    """Make four kilobytes of a file zeros; its size stays."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    end = min(len(data), middle + 4096)
    data[middle:end] = bytes(end - middle)
    path.write_bytes(data)


@pytest.mark.parametrize("kinds", [("fused",), ("concepts", "fused"), ("panels",), ("books",)])
def test_what_is_made_from_a_damaged_product_is_what_it_was(
    kinds: tuple[str, ...], finished: Path
) -> None:
    """The last is missing, and what it is made from is damaged without a change of its size."""
    folder = finished.parent.parent / "-".join(kinds)
    shutil.copytree(finished.parent, folder)
    story = folder / finished.name
    root = story.parent / ".storyforge"
    for kind in kinds:
        for path in [each for each in (root / kind).rglob("*") if each.suffix != ".sha256"]:
            if path.is_file():
                zeroed(path)
    for gone in ("panels", "books"):
        for path in (root / gone).iterdir():
            if gone not in kinds and not path.name.endswith(".sha256"):
                path.unlink()
                note_path(path).unlink()
    outcome = Project(story).render(jobs=1)
    assert not outcome.troubles
    assert products(story) == products(finished)
