"""A story whose pictures are made, as far as a store can tell, and changes to it."""

from __future__ import annotations

from pathlib import Path

from headed import base_folder
from PIL import Image

from storyforge.engine.engine import ledger_of
from storyforge.plan.plan import Plan
from storyforge.plan.status import StatusLine, missing, subject_of
from storyforge.project.project import Project
from storyforge.store import Entry

STORY = """
storyforge: 1
title: The Fox and the Lantern
base: ./base
characters: {pip: concepts/pip, owl: concepts/owl}
pages:
  - text: One night, Pip found a lantern.
    panels:
      - {id: found, prompt: night, regions: {left: {at: left, concept: pip}}, alt: A fox.}
  - text: The end.
    panels:
      - {id: end, prompt: "7", regions: {one: {at: right, concept: owl}}, alt: An owl.}
"""


def made_story(folder: Path) -> Path:
    """A story whose pictures are made, as far as a store can tell: nothing here opens a model."""
    for name, noun in [("pip", "fox"), ("owl", "owl")]:
        concept = folder / "book" / "concepts" / name
        concept.mkdir(parents=True)
        (concept / "concept.yaml").write_text(f"kind: character\nclass: {noun}\n")
        Image.new("RGB", (8, 8), (len(noun), 2, 3)).save(concept / "1.png")
    base_folder(folder / "book" / "base")
    story = folder / "book" / "story.yaml"
    story.write_text(STORY)
    make(Project(story))
    return story


def make(project: Project, *, only: str = "") -> Plan:
    """Put a product of every task that is missing into the store, and all into the ledger."""
    plan, store = project.plan(), project.store
    for task in missing(plan, store).tasks():
        kind = subject_of(task).split()[0]
        shelf = {"concept": "concepts", "fused": "fused", "panel": "panels"}.get(kind)
        with store.make(shelf or task.format, task.key) as out:  # type: ignore[union-attr]
            file = out
            if shelf == "fused":
                out.mkdir()
                file = out / "manifest.json"
            file.write_bytes(f"{subject_of(task)} {task.key}".encode())
    ledger = ledger_of(store, plan.story)
    entries = ledger.entries()
    for task in plan.tasks():
        if not only or subject_of(task) == only:
            entries[subject_of(task)] = Entry(task.key, plan.key_inputs[task.key], 2.0)
    ledger.write(entries)
    return plan


def edit(story: Path, old: str, new: str) -> None:
    assert old in story.read_text()
    story.write_text(story.read_text().replace(old, new))


def lines(story: Path) -> dict[str, StatusLine]:
    return {line.subject: line for line in Project(story).status().lines}


def retrain(story: Path, name: str) -> None:
    Image.new("RGB", (8, 8), "red").save(story.parent / "concepts" / name / "2.png")
