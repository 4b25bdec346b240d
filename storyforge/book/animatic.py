"""A composed book as a film: every page for as long as it is read, spoken where it is recorded.

ffmpeg makes it, which is not ours: it has to be on the machine, or come with the extra `film`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from storyforge.book.leaf import Book, Leaf
from storyforge.book.pdf import page_images
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.story.trims import POINTS_PER_INCH

_HEIGHT: Final = 1080
"""Pixels of a page that is as high as the film."""

_WIDTH: Final = 1920
_READ: Final = (2.5, 2.0)
"""Seconds that a page stands without words, and words that are read in one more."""

_PAUSE: Final = 0.8
"""Seconds between a page's last word and the next page."""

_ENCODED: Final = (
    *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"),
    *("-r", "24", "-threads", "1", "-c:a", "aac", "-b:a", "128k", "-ar", "44100", "-ac", "2"),
)
_PLAIN: Final = ("-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact")
"""No dates and no names of programs: the same book, the same bytes."""


def write_film(book: Book, path: Path) -> Path:
    """Write the film to `path`, whole or not at all.

    Raises EnvironmentProblem without ffmpeg, StoryForgeError if it refuses.
    """
    tool = ffmpeg()
    ppi = _HEIGHT / (book.trim.height * POINTS_PER_INCH) * POINTS_PER_INCH
    with tempfile.TemporaryDirectory(prefix="storyforge-film-") as made:
        folder = Path(made)
        listed = []
        for leaf, page in zip(book.leaves, page_images(book, ppi), strict=True):
            still = folder / f"{leaf.number:03d}.png"
            still.write_bytes(page)
            clip = folder / f"{leaf.number:03d}.mp4"
            _run(tool, [*_shown(leaf, still), *_PLAIN, str(clip)])
            listed.append(f"file '{clip.name}'\n")
        (folder / "clips.txt").write_text("".join(listed))
        whole = folder / "whole.mp4"
        joined = ["-f", "concat", "-safe", "0", "-i", str(folder / "clips.txt"), "-c", "copy"]
        _run(tool, [*joined, *_PLAIN, "-movflags", "+faststart", str(whole)])
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        shutil.copyfile(whole, partial)
        os.replace(partial, path)
    return path


def lasting(leaf: Leaf) -> float:
    """Seconds that a page is shown: as long as it is spoken, or as it takes to read."""
    if leaf.narration is not None:
        return leaf.narration.seconds + _PAUSE
    said = [text.text for text in leaf.texts if text.role != "colophon"]
    said += [" ".join(item.lines) for picture in leaf.pictures for item in picture.balloons]
    base, pace = _READ
    return base + len(" ".join(said).split()) / pace


def _shown(leaf: Leaf, still: Path) -> list[str]:
    """One page as a clip: the still, its sound or silence, in the middle of the film's frame."""
    seconds = f"{lasting(leaf):.3f}"
    silence = ["-f", "lavfi", "-i", "anullsrc=r=44100:cl=stereo"]
    sound = ["-i", str(leaf.narration.path)] if leaf.narration else silence
    fitted = (
        f"scale={_WIDTH}:{_HEIGHT}:force_original_aspect_ratio=decrease,"
        f"pad={_WIDTH}:{_HEIGHT}:(ow-iw)/2:(oh-ih)/2:color=0x14110f,setsar=1"
    )
    pictures = ["-loop", "1", "-framerate", "24", "-i", str(still)]
    return [*pictures, *sound, "-vf", fitted, "-af", "apad", "-t", seconds, *_ENCODED]


def ffmpeg() -> str:
    """Where ffmpeg is: on the path, or in the package of the extra.

    Raises EnvironmentProblem if it is nowhere.
    """
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as exc:
        hint = "install ffmpeg, or `pip install 'storyforge[film]'`"
        raise EnvironmentProblem("films need ffmpeg, which is not here", hint=hint) from exc
    return str(get_ffmpeg_exe())


def _run(tool: str, arguments: Sequence[str]) -> None:
    command = [tool, "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise StoryForgeError(f"ffmpeg refused: {said[-1] if said else done.returncode}")
