"""The pictures of one concept as they lie in their folder, and what is said of them.

What a file is, is decided here alone: a caption lies beside its picture as `.txt`, one a line, or
in `metadata.jsonl`; a mask is named there, lies beside as `NAME-mask.png`, or is the alpha channel.
OneTrainer's `NAME-masklabel.png` and kohya's `NAME.caption` are read as well.
All else that ends like a picture shows the concept. A picture without a caption gets those of its
kind. Needs no torch; turning pictures into tensors is `train.dataset`'s work.
"""

from __future__ import annotations

import io
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops, ImageCms, ImageOps

from storyforge.errors import StoryForgeError

_ARTICLES: Final = ("a ", "an ", "the ", "some ", "two ", "three ")

PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Endings of the files that are looked at as pictures of a concept."""

METADATA: Final = "metadata.jsonl"
"""One JSON object a line: `file_name`, `text` (one caption or a list), and if need be `mask`."""

_MASK: Final = "-mask"
_MASKS: Final = (_MASK, "-masklabel")
"""How the stem of a picture ends that shows where the concept is, white on black."""

_CAPTIONS: Final = (".txt", ".caption")
_DEEP: Final = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
"""Pillow's modes of more than eight bits a channel."""

TEMPLATES: Final = {
    "character": ("a {}", "a picture of a {}", "a drawing of a {}", "illustration of a {}"),
    "object": ("a {}", "a picture of a {}", "a drawing of a {}", "illustration of a {}"),
    "scene": ("in {}", "a picture of {}", "{}", "a view of {}"),
}


MAX_FILES: Final = 5_000
"""Pictures and captions of one concept; every command hashes all of them."""

MAX_PIXELS: Final = 80_000_000
"""Of one picture; larger ones fill the memory, and are scaled down before anything is learnt."""


def beside(folder: Path, written: str) -> Path:
    """Where a file lies that somebody names in a file of this folder; `~` is the home folder.

    One rule for whoever looks whether it is there and whoever opens it; no name makes it raise.
    """
    try:
        named = os.path.expanduser(written)
    except ValueError:
        named = written  # it holds a zero byte, which no file's name does
    return Path(os.path.normpath(folder / named))


@dataclass(frozen=True, slots=True)
class Written:
    """One caption as its author wrote it: the file, the line from 1, and the words."""

    file: str
    line: int
    words: str


@dataclass(frozen=True, slots=True)
class ConceptPicture:
    """One picture, the mask drawn for it if there is one, and its captions; names in the folder."""

    file: str
    mask: str | None
    written: tuple[Written, ...]

    def captions(self, name: str, kind: str) -> tuple[str, ...]:
        """What the picture shows, with the concept as `<name>`; the kind's own words if none."""
        own = tuple(caption_of(each.words, name, kind) for each in self.written)
        return own or tuple(template.format(f"<{name}>") for template in TEMPLATES[kind])


@dataclass(frozen=True, slots=True)
class MetadataLine:
    """One line of `metadata.jsonl`."""

    line: int
    file: str
    captions: tuple[str, ...]
    mask: str | None


def files_read(folder: Path, most: int = MAX_FILES) -> list[Path]:
    """Every file below the folder that decides about what is learnt; what is hidden does not.

    Raises StoryForgeError for a folder with more of them than any concept has.
    """
    files: list[Path] = []
    for file in folder.rglob("*"):
        if _is_read(file, folder):
            files.append(file)
            if len(files) > most:
                raise StoryForgeError(
                    f"`{folder}` holds more than {most} pictures and captions",
                    hint="name a folder that shows one concept and nothing else",
                )
    return sorted(files)


def _is_read(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    told = file.suffix.lower() in (*PICTURES, *_CAPTIONS) or file.name == METADATA
    return file.is_file() and not hidden and told


def picture_names(folder: Path) -> tuple[str, ...]:
    """The files in the folder that show the concept, rather than where in a picture it is.

    A `metadata.jsonl` that cannot be read names no mask: whoever reads captions tells of it.
    """
    try:
        named = {record.mask for record in metadata(folder)}
    except StoryForgeError:
        named = set()
    files = (file for file in files_read(folder) if file.parent == folder)
    return tuple(
        file.name
        for file in files
        if file.suffix.lower() in PICTURES and not _is_mask(file.name) and file.name not in named
    )


def _is_mask(file: str) -> bool:
    return Path(file).stem.endswith(_MASKS)


def sources(folder: Path, images: Sequence[str]) -> list[ConceptPicture]:
    """The pictures among `images`, with what lies beside them; masks are no pictures.

    A `.txt` beside a picture goes before its line in `metadata.jsonl`.

    Raises:
      StoryForgeError: for captions that cannot be read, naming the file.
    """
    records = {record.file: record for record in metadata(folder)}
    masks = {record.mask for record in records.values() if record.mask}
    found = []
    for file in images:
        if _is_mask(file) or file in masks:
            continue
        record = records.get(file)
        notes = (Path(file).with_suffix(ending).name for ending in _CAPTIONS)
        written = next((told for note in notes if (told := caption_lines(folder, note))), [])
        if record is not None and not written:
            written = [Written(METADATA, record.line, words) for words in record.captions]
        mask = record.mask if record is not None else None
        for beside in (f"{Path(file).stem}{ending}.png" for ending in _MASKS):
            if mask is None and (folder / beside).is_file():
                mask = beside
        found.append(ConceptPicture(file, mask, tuple(written)))
    return found


def caption_of(line: str, name: str, kind: str) -> str:
    """A caption with the concept as `<name>`: written so, as `[trigger]`, or put in front."""
    line = line.strip().replace("[trigger]", f"<{name}>")
    if f"<{name}>" in line:
        return line
    named = re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE)
    if named.search(line):
        return named.sub(f"<{name}>", line)
    return f"{'in' if kind == 'scene' else 'a'} <{name}>, {line}"


def names_concept(line: str, name: str) -> bool:
    """Whether a caption says where the concept is, in any of the ways that `caption_of` knows."""
    return not caption_of(line, name, "character").endswith(f">, {line.strip()}")


def caption_lines(folder: Path, file: str) -> list[Written]:
    """The captions in a `.txt`, one a line; none without a file."""
    note = folder / file
    if not note.is_file():
        return []
    _check_inside(note, folder)
    try:
        text = note.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise StoryForgeError(
            f"cannot read the caption `{note}`: {exc}", hint="save it as UTF-8"
        ) from exc
    lines = enumerate(text.splitlines(), start=1)
    return [Written(file, number, line) for number, line in lines if line.strip()]


def _check_inside(file: Path, folder: Path) -> None:
    """Raise StoryForgeError for a caption or mask that a link leads out of its folder."""
    if not file.resolve().is_relative_to(folder.resolve()):
        raise StoryForgeError(
            f"`{file}` leads out of its folder", hint="captions and masks lie beside the pictures"
        )


class MetadataError(StoryForgeError):
    """A line of `metadata.jsonl` that says nothing; `line` counts from 1."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        """Say which line, and what a line looks like."""
        super().__init__(
            f"line {line} of `{path}` {reason}",
            hint='a line looks so: {"file_name": "01.png", "text": "a [trigger] in the snow"}',
        )
        self.line, self.reason = line, reason


def metadata(folder: Path) -> list[MetadataLine]:
    """The lines of the folder's `metadata.jsonl`; none without one.

    Raises:
      StoryForgeError: if the file cannot be read; MetadataError for a line without a picture.
    """
    path = folder / METADATA
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise StoryForgeError(f"cannot read `{path}`: {exc}", hint="save it as UTF-8") from exc
    lines = enumerate(text.splitlines(), start=1)
    return [_record(path, number, line) for number, line in lines if line.strip()]


def _record(path: Path, number: int, line: str) -> MetadataLine:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise MetadataError(path, number, f"is no JSON: {exc}") from exc
    if not isinstance(said, dict):
        raise MetadataError(path, number, "is no JSON object")
    file, words, mask = said.get("file_name"), said.get("text", []), said.get("mask")
    captions = [words] if isinstance(words, str) else words
    if not isinstance(file, str) or not file:
        raise MetadataError(path, number, "has no `file_name`")
    if not isinstance(captions, list) or not all(isinstance(each, str) for each in captions):
        raise MetadataError(path, number, "has a `text` that is neither a text nor a list of them")
    if mask is not None and not isinstance(mask, str):
        raise MetadataError(path, number, "has a `mask` that is no file name")
    if mask is not None and (Path(mask).is_absolute() or ".." in Path(mask).parts):
        raise MetadataError(path, number, "has a `mask` that leads out of the folder")
    return MetadataLine(number, file, tuple(each for each in captions if each.strip()), mask)


def open_picture(path: Path) -> Image.Image:
    """A picture, upright; any transparency in a channel of its own.

    Raises:
      StoryForgeError: if it cannot be read, or would fill the memory (a decompression bomb).
    """
    with _opened(path) as file:
        upright = ImageOps.exif_transpose(file)
        if upright.mode in _DEEP:
            return _shallow(upright)
        return upright.convert("RGBA") if upright.has_transparency_data else upright.copy()


def check_readable(path: Path) -> None:
    """Raise as `open_picture` does, and for a PNG whose sums are wrong, too."""
    with _opened(path) as file:
        png = file.format == "PNG"
        # A JPEG is read to its end at an eighth of its size, and others as they are.
        file.draft("L", (file.width // 8, file.height // 8))
        file.load()
    if png:
        with _opened(path) as file:
            file.verify()


def has_alpha(path: Path) -> bool:
    """Whether a picture that can be read says in its head that some of it is transparent."""
    with _opened(path) as file:
        return file.has_transparency_data


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            # Photographs are fine; unpacked, and turned upright, one of the largest takes 500 MB.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                yield file
    except Image.DecompressionBombError as exc:
        raise PictureTooLarge(
            f"cannot read the picture `{path}`: it claims to have more pixels than any photograph",
            hint="scale it down, if it comes from someone you trust",
        ) from exc
    except (OSError, SyntaxError, ValueError) as exc:
        raise StoryForgeError(
            f"cannot read the picture `{path}`: {exc}", hint="PNG, JPEG and WebP are fine"
        ) from exc


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, upright; nothing is unpacked.

    Raises StoryForgeError if the file is no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                width, height = picture.size
                turned = picture.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise StoryForgeError(f"cannot read the picture `{path}`: {exc}") from exc
    return (height, width) if turned else (width, height)


_ORIENTATION: Final = 0x0112
_ON_ITS_SIDE: Final = range(5, 9)
"""Values of the EXIF orientation for pictures that lie on their side."""


_ROUNDED: Final = 2
"""Of 255, as much as a colour may change that is turned into its own profile's."""


def _shallow(picture: Image.Image) -> Image.Image:
    """Greys of 16 bits as those of 8; Pillow's own `convert` cuts them off at 255, which is white.

    A picture of floats is taken to reach from 0 to 1.
    """
    scale = 255.0 if picture.mode == "F" else 255 / 65535
    return picture.convert("F").point(lambda grey: grey * scale + 0.5).convert("L")


class PictureTooLarge(StoryForgeError):
    """A picture that would fill the memory when it is unpacked."""


def mask_of(folder: Path, source: ConceptPicture, picture: Image.Image) -> Image.Image | None:
    """Where the subject is, white on black, or None; `picture` is the source, opened."""
    if source.mask is not None:
        _check_inside(folder / source.mask, folder)
        return open_picture(folder / source.mask).convert("L")
    return picture.getchannel("A") if "A" in picture.getbands() else None


def on_paper(picture: Image.Image) -> Image.Image:
    """The picture in sRGB without transparency, on white."""
    plain = in_srgb(picture)
    if plain.mode == "RGB":
        return plain
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, plain).convert("RGB")


def in_srgb(picture: Image.Image) -> Image.Image:
    """The picture as RGB, or RGBA if parts of it are clear, in the colours that its profile means.

    A profile that cannot be read, or is another colour model's, counts as none.
    """
    profile = picture.info.get("icc_profile")
    clear = picture.getchannel("A") if "A" in picture.getbands() else None
    plain = picture.convert("RGB") if clear is not None else picture
    plain = plain if plain.mode in {"RGB", "CMYK", "L", "LAB"} else plain.convert("RGB")
    made = plain.convert("RGB")
    if isinstance(profile, bytes):
        srgb = ImageCms.createProfile("sRGB")
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(plain, own, srgb, outputMode="RGB")
            # From sRGB to sRGB nothing changes but what is rounded.
            if plain.mode == "RGB" and converted is not None and _near(plain, converted):
                converted = plain
        except (ImageCms.PyCMSError, OSError):
            converted = None
        made = made if converted is None else converted
    if clear is not None:
        made.putalpha(clear)
    return made


def _near(one: Image.Image, other: Image.Image) -> bool:
    """Whether no colour of a picture differs from the other's by more than rounding."""
    extrema = ImageChops.difference(one, other).getextrema()
    return max(most for _, most in extrema) <= _ROUNDED  # type: ignore[misc]


def with_article(noun: str) -> str:
    """The noun as a caption says it: `a fox`, `an owl`; unchanged if it has an article."""
    if noun.lower().startswith(_ARTICLES):
        return noun
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def with_articles(text: str) -> str:
    """The text with `an` before vowels: what was put in a prompt's gap may begin with one."""
    words = text.split(" ")
    for index, following in enumerate(words[1:]):
        if words[index] == "a" and following[:1] in "aeiou":
            words[index] = "an"
    return " ".join(words)


def cut_out(folder: Path, source: ConceptPicture) -> Image.Image:
    """The picture on white, cut to the box round its mask if it has one that shows anything."""
    picture = open_picture(folder / source.file)
    mask, flat = mask_of(folder, source, picture), on_paper(picture)
    # Nearest, so that the box grows by no pixel that the author has not painted.
    box = None if mask is None else mask.resize(flat.size, Image.Resampling.NEAREST).getbbox()
    return flat.crop(box) if box else flat
