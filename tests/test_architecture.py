"""The house keeps its floors: who may import whom, no circles, and no torch before it is needed."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import storyforge

PACKAGE = Path(storyforge.__file__).parent

FLOORS: dict[str, int] = {
    # the model of the story, from the ground up
    "": 0,
    "errors": 0,
    "layout": 1,
    "catalogue": 1,
    "provenance": 1,
    "pose": 1,
    "store": 1,
    "executor": 1,
    "headers": 1,
    "yamlmarks": 1,
    "pocket": 1,
    "book.trims": 1,
    "book.families": 1,
    "bases": 2,
    "validation": 2,
    "lint": 2,
    "subject": 2,
    "fusesettings": 2,
    "edition": 2,
    "languages": 2,
    "samplesettings": 2,
    "story": 2,
    "schemas": 2,
    "sarif": 2,
    "wording": 3,
    "pins": 3,
    "panels": 3,
    "plan": 3,
    "choice": 3,
    "cost": 3,
    "outline": 3,
    # rooms that are blind to each other
    "model": 4,
    "book": 4,
    "proof": 5,
    "train": 5,
    "fuse": 5,
    "sample": 5,
    "evaluate": 5,
    "pocket.pretrain": 5,
    # those who ask
    "scaffold": 6,
    "bindery": 6,
    "inspection": 6,
    "judging": 6,
    "workshop": 6,
    "workflow": 6,
    "fusing": 6,
    "publishing": 6,
    "approval": 6,
    "showing": 6,
    "signing": 6,
    "golden": 6,
    "evaluation": 6,
    "terminal": 7,
    "cli": 7,
    "__main__": 7,
}
"""The floor of every room; a module belongs to the room with the longest name that fits."""

FAMILIES = (
    {"validation", "lint", "subject", "fusesettings", "edition", "languages", "story", "schemas"},
)
FAMILIES += ({"samplesettings", "story"},)
FAMILIES += ({"wording", "pins", "panels", "plan", "choice", "cost", "outline"},)
FAMILIES += (
    {"scaffold", "bindery", "inspection", "workshop", "workflow", "publishing", "approval"}
    | {"golden", "evaluation", "judging"},
)
FAMILIES += ({"terminal", "cli", "__main__"}, {"", "errors"})
FAMILIES += ({"layout", "pose", "catalogue", "yamlmarks", "store", "executor", "book.trims"},)
"""Rooms of one floor that may know each other, as long as there is no circle."""

TORCH_ROOMS = {"model", "train", "fuse", "sample", "evaluate", "pocket.pretrain"}
HEAVY = {"torch", "diffusers", "transformers", "peft"}


def modules() -> dict[str, Path]:
    """Every module of the package by its name, without `storyforge.`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room_of(module: str) -> str:
    rooms = [room for room in FLOORS if module == room or module.startswith(f"{room}.") or not room]
    return max((room for room in rooms if room or not module), key=len, default="nowhere")


def imports(path: Path, *, late: bool = True) -> Iterator[str]:
    """What a file imports, wherever it does; without `late`, only what it imports at once."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if late else iter(tree.body)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def needed_by(module: str, *, late: bool = True) -> set[str]:
    """The package's own modules that a module imports."""
    needed = set()
    for name in imports(MODULES[module], late=late):
        if name.partition(".")[0] != "storyforge":
            continue
        inner = name.removeprefix("storyforge").removeprefix(".")
        while inner not in MODULES:
            inner = inner.rpartition(".")[0]
        needed.add(inner)
    return needed - {module}


def may_import(asker: str, asked: str) -> bool:
    if asker == asked or FLOORS[asked] < FLOORS[asker]:
        return True
    return any({asker, asked} <= family for family in FAMILIES)


def test_every_module_has_a_floor() -> None:
    homeless = [module for module in MODULES if room_of(module) == "nowhere"]
    assert not homeless


@pytest.mark.parametrize("module", MODULES)
def test_imports_lead_downstairs(module: str) -> None:
    room = room_of(module)
    wrong = [asked for asked in needed_by(module) if not may_import(room, room_of(asked))]
    assert not wrong, f"{module} imports {wrong}"


def test_there_are_no_circles_even_with_late_imports() -> None:
    graph = {module: needed_by(module) for module in MODULES}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_torch_lives_in_its_own_rooms() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        if room_of(module) not in TORCH_ROOMS
        for name in imports(path)
        if name.partition(".")[0] in HEAVY
    ]
    assert not wrong


def test_only_the_command_line_prints() -> None:
    wrong = [
        module
        for module, path in MODULES.items()
        if room_of(module) not in {"cli", "terminal", "pocket.pretrain"}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not wrong


STORY = """
storyforge: 1
title: A
pages: [{text: Once upon a time.}]
"""


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--help",
        "check {story}",
        "preview {story} --out {out}",
        "plan --help",
        "schema",
        "concept check {pictures}",
    ],
)
def test_the_command_line_does_not_wait_for_torch(words: str, tmp_path: Path) -> None:
    story = tmp_path / "story.yaml"
    story.write_text(STORY)
    pictures = tmp_path / "pip"
    pictures.mkdir()
    Image.effect_noise((300, 300), 80).save(pictures / "a.png")
    arguments = words.format(story=story, pictures=pictures, out=tmp_path / "out").split()
    program = (
        "import sys, storyforge.cli\n"
        f"sys.argv = ['storyforge', *{arguments!r}]\n"
        f"try: {'storyforge.cli.app()' if arguments else 'pass'}\n"
        "except SystemExit as exc: assert not exc.code, exc.code\n"
        f"heavy = {sorted(HEAVY)!r}\n"
        "assert not [name for name in heavy if name in sys.modules], list(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
