"""Pictures that a concept may be learnt from: all that were drawn, and those that were chosen.

They lie in a hidden folder beside the concept's pictures, which no other command reads; whoever is
chosen is copied out of it with its mask and its caption. What the author adds stays.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from storyforge.errors import StoryForgeError
from storyforge.pictures import METADATA
from storyforge.store import write_whole

FOLDER: Final = ".candidates"
_TOLD: Final = "candidates.json"
_JUDGE: Final = "judge.json"


@dataclass(frozen=True, slots=True)
class Seen:
    """One candidate, and what a CLIP thinks of it.

    number  from 1
    text    how well it shows the description
    alike   how alike it is to those that were chosen, on the mean
    """

    number: int
    caption: str
    prompt: str
    text: float
    alike: float
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """Who chose among the candidates, and which; whoever is chosen now and not there, or the other
    way round, was chosen by hand.

    clip  a folder or hub id; None for the base's own
    """

    clip: str | None
    chosen: tuple[int, ...]


_SEEN: Final = TypeAdapter(tuple[Seen, ...])
_JUDGED: Final = TypeAdapter(Choice)


def drawn_at(folder: Path, number: int) -> Path:
    """Where a candidate lies."""
    return folder / FOLDER / f"{number:03d}.png"


def mask_at(folder: Path, number: int) -> Path:
    """Where its mask lies, if there is one."""
    return folder / FOLDER / f"{number:03d}-mask.png"


def read_candidates(folder: Path) -> tuple[Seen, ...]:
    """The candidates of a concept's folder; none if it was not made from words."""
    try:
        return _SEEN.validate_json((folder / FOLDER / _TOLD).read_bytes())
    except (OSError, ValueError):
        return ()


def read_choice(folder: Path) -> Choice | None:
    """Who chose among a concept's candidates; None if nobody knows."""
    try:
        return _JUDGED.validate_json((folder / FOLDER / _JUDGE).read_bytes())
    except (OSError, ValueError):
        return None


def write_choice(folder: Path, choice: Choice) -> None:
    """Write down who chooses, before it is done: half a choice is none."""
    write_whole(folder / FOLDER / _JUDGE, json.dumps(asdict(choice)).encode())


def choose(folder: Path, numbers: Collection[int]) -> tuple[Seen, ...]:
    """Let the concept be learnt from these candidates, and no others.

    Raises StoryForgeError for numbers that no candidate has, or without any.
    """
    known = read_candidates(folder)
    strange = sorted(set(numbers) - {each.number for each in known})
    if strange or not numbers:
        said = f"no candidate {strange[0]}" if strange else "no candidate is chosen"
        hint = f"there are {len(known)}" if known else "`storyforge concept new` draws them"
        raise StoryForgeError(f"`{folder}`: {said}", hint=hint)
    return keep_set(folder, [replace(each, chosen=each.number in numbers) for each in known])


def keep_set(folder: Path, seen: Sequence[Seen]) -> tuple[Seen, ...]:
    """Write down all candidates, and copy out those that are chosen."""
    told = json.dumps([asdict(each) for each in seen], indent=1).encode()
    captions: dict[str, Mapping[str, object]] = {}
    for each in seen:
        target, mask = folder / _name(each.number), folder / _mask_name(each.number)
        pairs = [(drawn_at(folder, each.number), target), (mask_at(folder, each.number), mask)]
        if each.chosen:
            for source, copy in pairs:
                if source.is_file() and not copy.is_file():
                    write_whole(copy, source.read_bytes())
            has_mask = {"mask": mask.name} if mask.is_file() else {}
            captions[target.name] = {"file_name": target.name, "text": each.caption, **has_mask}
        else:
            for source, copy in pairs:
                _take_back(source, copy)
    _write_captions(folder, captions, {_name(each.number) for each in seen})
    write_whole(folder / FOLDER / _TOLD, told)
    return tuple(seen)


def _name(number: int) -> str:
    return f"{number:03d}.png"


def _mask_name(number: int) -> str:
    return f"{number:03d}-mask.png"


def _take_back(source: Path, copy: Path) -> None:
    """Remove a copy, unless the author has painted on it."""
    if copy.is_file() and source.is_file() and copy.read_bytes() == source.read_bytes():
        copy.unlink()


def _write_captions(
    folder: Path, captions: Mapping[str, Mapping[str, object]], ours: Collection[str]
) -> None:
    """Write a line for each that has none, behind those that there are: an author may have changed
    them. Lines of pictures of `ours` that are not here any more go."""
    path, lines, said = folder / METADATA, list[str](), set[str]()
    gone = {name for name in ours if name not in captions and not (folder / name).is_file()}
    if path.is_file():
        for line in path.read_text(encoding="utf-8-sig").splitlines():
            try:
                named = json.loads(line).get("file_name")
            except (ValueError, AttributeError):
                named = None
            if line.strip() and named not in gone:
                lines.append(line)
                said.add(str(named))
    # What the author has painted on stays in the folder, and is told of.
    left = {name for name in ours if name not in captions} - gone
    lines += [json.dumps({"file_name": n, "text": "a [trigger]"}) for n in sorted(left - said)]
    new = [each for name, each in captions.items() if name not in said]
    lines += [json.dumps(each, ensure_ascii=False) for each in new]
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())
