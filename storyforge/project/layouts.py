"""The layouts that there are, and how they look."""

from __future__ import annotations

from pathlib import Path

from storyforge.errors import StoryForgeError, closest
from storyforge.store import write_whole
from storyforge.story.layout import Layout, find, names
from storyforge.story.story import read_layout


def layouts(where: Path | None) -> tuple[Layout, ...]:
    """The layouts that come with storyforge and, with a story's file or folder, those beside it."""
    folders = () if where is None else ((where.parent if where.is_file() else where) / "layouts",)
    found = [find(name, folders) for name in names(folders)]
    return tuple(read_layout(path) for path in found if path is not None)


def picture_layouts(name: str | None, where: Path | None, out: Path | None) -> Path:
    """Draw the layout `name`, or all on one sheet if None; the PNG that shows it.

    where  a story's file or folder, whose own layouts count as well
    out    the file; None for one named after the layout, in the current folder
    """
    from storyforge.book.preview import diagram, typeset

    found = layouts(where)
    if name is None:
        drawing = diagram.layouts_drawing(found)
    else:
        named = [each for each in found if each.name == name]
        if not named:
            guess = closest(name, [each.name for each in found])
            hint = f"did you mean `{guess}`?" if guess else "see `storyforge layout list`"
            raise StoryForgeError(f"no layout named `{name}`", hint=hint)
        drawing = diagram.layout_drawing(named[0])
    target = out or Path(f"{drawing.name}.png")
    if target.suffix.lower() != ".png":
        message = f"`{target}` does not end in `.png`, and a layout is shown as a PNG"
        raise StoryForgeError(message, hint=f"write `--out {target.with_suffix('.png')}`")
    write_whole(target, typeset.flat(typeset.pngs([drawing])[0]))
    return target
