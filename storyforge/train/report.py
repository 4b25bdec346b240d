"""What is wrong with the pictures of a concept, told before anything is learnt from them.

Nothing is dropped in silence: what training would refuse is an error, what would harm the concept a
warning, each with a code that stays and the remedy. Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storyforge.errors import Diagnostic, Mark, Report, Severity, StoryForgeError
from storyforge.pictures import (
    METADATA,
    PICTURES,
    ConceptPicture,
    MetadataError,
    PictureTooLarge,
    check_readable,
    has_alpha,
    mask_of,
    metadata,
    names_concept,
    on_paper,
    open_picture,
    picture_names,
    sources,
)
from storyforge.settings import TrainSettings

FEWEST: Final = 4
"""Pictures; from fewer a concept learns the one pose and background that it was shown."""

TWINS: Final = 20
"""Bits of 240 by which the hashes of two pictures may differ that show the same. A sample picture
and its enlarged JPEG differ by 13 at most, two sample pictures of one concept by 41 at least."""

BLURRED: Final = 15.0
"""Least variance of the Laplacian (8 bits, at most 256 pixels wide) of a picture with sharp edges.
The sample concepts' pictures have 177 or more, and less than 4 when blurred by 3 pixels."""

_BLUR_SIDE: Final = 256
_HASH_SIDE: Final = 16

LOST: Final = 0.25
"""Part of a picture that may be cut away without a word."""

_FULL: Final = 0.98
"""Part of a picture from which on a mask says nothing."""

_TOO_LARGE: Final = "the picture claims to have more pixels than any photograph"
_UNREADABLE: Final = "the picture cannot be read"
_PAINT: Final = "paint the subject white on black, or remove the mask"

_FOREIGN: Final = (".gif", ".tif", ".tiff", ".heic", ".avif", ".psd", ".svg")
"""Endings of pictures that are not looked at."""


@dataclass(frozen=True, slots=True)
class ExaminedPicture:
    """One picture as it was found.

    size       width and height in pixels
    mask       the file of its mask; None for its alpha channel, or none at all
    sharpness  variance of its Laplacian; see `BLURRED`
    masked     part of it that the mask shows, in [0, 1]; None without a mask
    captions   how many are its own
    """

    file: str
    size: tuple[int, int]
    mask: str | None
    sharpness: float
    masked: float | None
    captions: int


@dataclass(frozen=True, slots=True)
class DataReport:
    """All pictures that could be read, and everything that was found; files by their full path."""

    folder: Path
    seen: tuple[ExaminedPicture, ...]
    findings: tuple[Diagnostic, ...]

    def codes(self, seen: ExaminedPicture) -> list[str]:
        """The codes of what was found about one picture, with its captions and mask."""
        beside = {seen.file, Path(seen.file).with_suffix(".txt").name, seen.mask}
        return sorted({f.code for f in self.findings if Path(f.file).name in beside})

    @property
    def errors(self) -> int:
        """How many findings training would stop at."""
        return sum(finding.severity is Severity.ERROR for finding in self.findings)


def examine_pictures(folder: Path, *, name: str, side: int, shaped: bool = False) -> DataReport:
    """Look at every picture of a folder.

    Args:
      folder: the pictures, with captions and masks beside them.
      name: what the concept is called in captions.
      side: the base's own side in pixels.
      shaped: whether pictures keep their shape, instead of their middle square.

    Raises:
      StoryForgeError: if there is no such folder.
    """
    reports = {"": Report(str(folder))}
    try:
        files = sorted(file.name for file in folder.iterdir() if file.is_file())
    except OSError as exc:
        raise StoryForgeError(f"cannot look into `{folder}`: {exc.strerror}") from exc
    images = [file for file in files if Path(file).suffix.lower() in PICTURES]
    seen: list[ExaminedPicture] = []
    hashes: dict[str, NDArray[np.bool_]] = {}
    for source in _sources(folder, images, reports):
        report = reports.setdefault(source.file, Report(str(folder / source.file)))
        picture = _opened(folder / source.file, report)
        _check_captions(folder, source, name, reports)
        if picture is None:
            continue
        masked = _check_mask(folder, source, picture, reports)
        flat = on_paper(picture)
        own = ExaminedPicture(
            source.file, flat.size, source.mask, sharpness(flat), masked, len(source.written)
        )
        _check_picture(own, side, shaped, report)
        hashes[source.file] = picture_hash(flat)
        seen.append(own)
    _check_twins(hashes, reports)
    _check_number(len(seen), reports[""])
    _check_left_over(folder, files, reports)
    told = {finding for report in reports.values() for finding in report.findings()}
    return DataReport(folder, tuple(seen), tuple(sorted(told)))


_OF_MASKS: Final = {
    "composed": "cuts the concept out of its pictures",
    "masked_prior": "holds what is outside the concept's masks",
}
"""Settings that need a mask -> what they do with it."""


def refusals(folder: Path, train: TrainSettings) -> tuple[Diagnostic, ...]:
    """What training by these settings would refuse of a folder, as far as it shows before pictures
    are unpacked."""
    reports: dict[str, Report] = {}
    images = [file.name for file in sorted(folder.iterdir()) if file.suffix.lower() in PICTURES]
    cut = False
    for source in _sources(folder, images, reports):
        report = reports.setdefault(source.file, Report(str(folder / source.file)))
        try:
            check_readable(folder / source.file)
            cut = cut or source.mask is not None or has_alpha(folder / source.file)
        except PictureTooLarge as exc:
            report.error(Mark(), "SF601", _TOO_LARGE, exc.hint)
        except StoryForgeError as exc:
            report.error(Mark(), "SF600", _UNREADABLE, exc.hint)
        if source.mask is not None:
            beside = reports.setdefault(source.mask, Report(str(folder / source.mask)))
            _check_drawn(folder, source, beside)
    for name, does in _OF_MASKS.items():
        if getattr(train, name) and not cut:
            message = f"`{name}` {does}, and no picture has a mask"
            hint = "lay NAME-mask.png beside a picture, white where the subject is, or leave it out"
            reports.setdefault("", Report(str(folder))).error(Mark(), "SF607", message, hint)
    errors = (found for report in reports.values() for found in report.findings())
    return tuple(sorted(found for found in errors if found.severity is Severity.ERROR))


def _check_drawn(folder: Path, source: ConceptPicture, report: Report) -> None:
    """Whether a mask in a file of its own can be read and shows something."""
    try:
        mask = mask_of(folder, source, Image.new("L", (1, 1)))
    except StoryForgeError as exc:
        report.error(Mark(), "SF604", "the mask cannot be read", exc.hint)
        return
    if mask is not None and mask.getbbox() is None:
        report.error(Mark(), "SF603", "the mask is empty", _PAINT)


def _sources(
    folder: Path, images: Sequence[str], reports: dict[str, Report]
) -> list[ConceptPicture]:
    """The pictures; those whose captions cannot be read go without them, and that is told."""
    try:
        records = metadata(folder)
    except StoryForgeError as exc:
        report = reports.setdefault(METADATA, Report(str(folder / METADATA)))
        line = exc.line if isinstance(exc, MetadataError) else 1
        report.error(Mark(line), "SF606", exc.message, exc.hint)
        return [ConceptPicture(file, None, ()) for file in images if file in picture_names(folder)]
    for record in records:
        if record.file not in images:
            report = reports.setdefault(METADATA, Report(str(folder / METADATA)))
            report.warning(Mark(record.line), "SF657", f"no picture `{record.file}` in this folder")
    found: list[ConceptPicture] = []
    for image in images:
        try:
            found += sources(folder, [image])
        except StoryForgeError as exc:
            note = Path(image).with_suffix(".txt").name
            reports[note] = Report(str(folder / note))
            reports[note].error(Mark(), "SF605", "the caption cannot be read", exc.hint)
            found.append(ConceptPicture(image, None, ()))
    masks = {source.mask for source in found}
    return [source for source in found if source.file not in masks]


def _opened(path: Path, report: Report) -> Image.Image | None:
    try:
        return open_picture(path)
    except PictureTooLarge as exc:
        report.error(Mark(), "SF601", _TOO_LARGE, exc.hint)
    except StoryForgeError as exc:
        report.error(Mark(), "SF600", _UNREADABLE, exc.hint)
    return None


def _check_captions(
    folder: Path, source: ConceptPicture, name: str, reports: dict[str, Report]
) -> None:
    for written in source.written:
        if names_concept(written.words, name):
            continue
        report = reports.setdefault(written.file, Report(str(folder / written.file)))
        message = f"the caption does not say where `<{name}>` is; the name is put in front"
        report.warning(Mark(written.line), "SF654", message, "write it, or [trigger], in its place")


def _check_mask(
    folder: Path, source: ConceptPicture, picture: Image.Image, reports: dict[str, Report]
) -> float | None:
    """Part of the picture that the mask shows; None without a mask that can be read."""
    file = source.mask or source.file
    report = reports.setdefault(file, Report(str(folder / file)))
    try:
        mask = mask_of(folder, source, picture)
    except StoryForgeError as exc:
        report.error(Mark(), "SF604", "the mask cannot be read", exc.hint)
        return None
    if mask is None:
        return None
    shown = float(np.asarray(mask, dtype=np.float32).mean() / 255)
    if mask.getextrema() == (0, 0):
        report.error(Mark(), "SF603", "the mask is empty", _PAINT)
    elif shown > _FULL:
        hint = "paint what is not the subject black, or remove the mask"
        report.warning(Mark(), "SF655", "the mask covers the whole picture", hint)
    wide, high = picture.width * mask.height, picture.height * mask.width
    if abs(wide - high) > 0.02 * max(wide, high):
        message = (
            f"the mask is {mask.width} x {mask.height} and the picture "
            f"{picture.width} x {picture.height}: their shapes differ"
        )
        report.warning(Mark(), "SF656", message, "draw the mask on the picture as it is")
    return shown


def _check_picture(seen: ExaminedPicture, side: int, shaped: bool, report: Report) -> None:
    width, height = seen.size
    if min(width, height) < side:
        message = f"{width} x {height} pixels; this base learns from {side} x {side}"
        report.warning(Mark(), "SF653", f"{message}, and enlarging blurs", "use a larger picture")
    if seen.sharpness < BLURRED:
        message = "the picture is blurred, and so will the concept be"
        report.warning(Mark(), "SF652", message, "leave it out, if there are others")
    lost = 1 - min(width, height) / max(width, height)
    if lost > LOST and not shaped:
        message = f"{lost:.0%} of the picture is cut away to make it square"
        report.warning(Mark(), "SF658", message, "crop it, or set `train: {buckets: true}`")


def _check_twins(hashes: dict[str, NDArray[np.bool_]], reports: dict[str, Report]) -> None:
    twins: set[str] = set()
    for (one, first), (other, second) in combinations(hashes.items(), 2):
        if other not in twins and np.count_nonzero(first != second) <= TWINS:
            twins.add(other)
            message = f"shows the same as `{one}`, which then counts twice"
            reports[other].warning(Mark(), "SF651", message, "keep one of them")


def _check_number(count: int, report: Report) -> None:
    if not count:
        hint = f"put some {', '.join(PICTURES[:3])} files there"
        report.error(Mark(), "SF602", "there is no picture to learn from", hint)
    elif count < FEWEST:
        message = f"{count} picture{'s' * (count > 1)}: the background is learnt as well"
        hint = f"{FEWEST} or more, on different backgrounds, are better"
        report.warning(Mark(), "SF650", message, hint)


def _check_left_over(folder: Path, files: Sequence[str], reports: dict[str, Report]) -> None:
    stems = {Path(file).stem for file in files if Path(file).suffix.lower() in PICTURES}
    for file in _left_over(files, stems):
        report = reports.setdefault(file, Report(str(folder / file)))
        if Path(file).suffix.lower() in _FOREIGN:
            report.warning(Mark(), "SF659", "not looked at", "save it as PNG, JPEG or WebP")
        else:
            report.warning(Mark(), "SF657", "there is no picture of this name", "rename it")


def _left_over(files: Sequence[str], stems: set[str]) -> Iterator[str]:
    """Files that belong to no picture: captions and masks without one, and foreign formats."""
    for file in files:
        path = Path(file)
        masked = re.fullmatch(r"(.+)-mask", path.stem)
        alone = path.suffix == ".txt" and path.stem not in stems
        if path.suffix.lower() in _FOREIGN or alone or (masked and masked[1] not in stems):
            yield file


def sharpness(picture: Image.Image) -> float:
    """The variance of the Laplacian of a picture, made at most 256 pixels wide."""
    small = picture.convert("L")
    small.thumbnail((_BLUR_SIDE, _BLUR_SIDE), Image.Resampling.LANCZOS)
    grey = np.asarray(small, dtype=np.float32)
    if min(grey.shape) < 3:
        return 0.0
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * middle).var())


def picture_hash(picture: Image.Image) -> NDArray[np.bool_]:
    """(240,) bits: whether each cell of a coarse picture is brighter than its left neighbour."""
    small = picture.convert("L").resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.LANCZOS)
    grey = np.asarray(small, dtype=np.int16)
    bits: NDArray[np.bool_] = (grey[:, 1:] > grey[:, :-1]).ravel()
    return bits
