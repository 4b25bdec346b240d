"""The house keeps its floors: who may import whom, no circles, and no torch before it is needed."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import storyforge

PACKAGE = Path(storyforge.__file__).parent

FLOORS = (
    {"errors"},
    {"store", "executor", "pictures", "pocket", "headers"},
    {"settings", "geometry", "contact_sheet"},
    {"modelref"},
    {"story"},
    {"provenance", "tasks"},
    {"model", "book"},
    {"train", "fuse", "sample", "metrics", "plan"},
    {"pocket.pretrain", "engine"},
    {"evaluate"},
    {"project"},
    {"desk", "write"},
    {"cli"},
)
"""The rooms from the ground up; those of one floor are blind to each other."""

BELOW_ALL = {"", "__main__"}
"""The public face: it holds the version, and reaches up only when it is asked."""

WORDLESS = {"tasks", "train", "fuse", "sample", "metrics", "model"}
"""Rooms that know tensors and tasks, and no file that an author writes."""

TORCH_ROOMS = {"model", "train", "fuse", "sample", "metrics", "pocket.pretrain"}
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
    """The room with the longest name that fits."""
    rooms = set().union(*FLOORS)
    fitting = [room for room in rooms if module == room or module.startswith(f"{room}.")]
    return max(fitting, key=len, default=module)


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


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


def test_every_module_is_in_a_room() -> None:
    rooms = set().union(*FLOORS) | BELOW_ALL
    assert not [module for module in MODULES if room_of(module) not in rooms]


@pytest.mark.parametrize("module", sorted(set(MODULES) - BELOW_ALL))
def test_imports_lead_downstairs(module: str) -> None:
    room = room_of(module)
    asked = {room_of(each) for each in needed_by(module)} - {room} - BELOW_ALL
    wrong = sorted(each for each in asked if floor_of(each) >= floor_of(room))
    assert not wrong, f"{module} imports {wrong}"


def test_the_stages_know_no_story_even_by_hearsay() -> None:
    graph = {module: needed_by(module) for module in MODULES}
    for module in MODULES:
        if room_of(module) in WORDLESS:
            seen, todo = set(), [module]
            while todo:
                seen |= (new := graph[todo.pop()] - seen - BELOW_ALL)
                todo += new
            wrong = sorted(each for each in seen if room_of(each) in {"story", "plan"})
            assert not wrong, f"{module} comes to know {wrong}"


def test_there_are_no_circles_even_with_late_imports() -> None:
    graph = {module: needed_by(module) - BELOW_ALL for module in MODULES}
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
        if room_of(module) not in {"cli", "pocket.pretrain"}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not wrong


def test_the_design_page_has_the_floors_that_hold() -> None:
    page = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", page, re.MULTILINE)
    told = {int(number): set(re.findall(r"`(.*?)`", rooms)) for number, rooms in rows}
    assert told == dict(enumerate(FLOORS))


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


def test_the_name_of_a_class_means_one_thing() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            # The world that the embedded model is drawn from has words of its own.
            if isinstance(node, ast.ClassDef) and not module.startswith("pocket"):
                homes.setdefault(node.name, []).append(module)
    assert not {name: at for name, at in homes.items() if len(at) > 1}


def test_only_the_ground_knows_the_embedded_model_by_its_name() -> None:
    wrong = [
        module
        for module, path in MODULES.items()
        if module != "modelref"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and any(
            isinstance(each, ast.Constant) and each.value == "pocket" for each in ast.walk(node)
        )
    ]
    assert not wrong
