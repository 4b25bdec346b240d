"""Readers of files that nobody vouches for: whatever is in them, it is one of our own errors.

Seeds lie in `corpus` and are changed at random. STORYFORGE_FUZZ=50 tries fifty times as many.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storyforge.errors import Report, StoryForgeError
from storyforge.headers.checked import check_font, head_of
from storyforge.model.card import Card
from storyforge.pictures import metadata, open_picture
from storyforge.plan.lockfile import parsed
from storyforge.store.ledger import Ledger
from storyforge.store.sums import Note, note_path
from storyforge.story.yaml import load

CORPUS = Path(__file__).parent / "corpus"

EXAMPLES = 60 * int(os.environ.get("STORYFORGE_FUZZ", "1"))

LOCK = """\
storyforge: 2
pins: 1
sum: 0000000000000000000000000000000000000000000000000000000000000000
panels:
  a: {take: 0, key: 00000000000000000000, sha256: 00}
"""
LEDGER = '{"storyforge": 2, "sha256": "00", "entries": {"panel a": {"key": "k", "recipe": {}}}}'


def seeds(ending: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(CORPUS.glob(f"*{ending}"))]


@st.composite
def changed(draw: st.DrawFn, known: list[bytes]) -> bytes:
    """A seed with pieces taken out, put in, doubled or replaced; or something else altogether."""
    data = draw(st.sampled_from([*known, b""]))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 16)))
        piece = draw(st.one_of(st.binary(max_size=12), st.just(data[start:end] * 2)))
        data = data[:start] + piece + data[end:]
    return data


def read_lock(path: Path) -> None:
    parsed(path, Report("lock"))


def read_yaml(path: Path) -> None:
    load(path, Report("story"))


def read_note(path: Path) -> None:
    note_path(path).write_bytes(path.read_bytes())
    Note.read(path)


def read_metadata(path: Path) -> None:
    metadata(path.parent)


def read_ledger(path: Path) -> None:
    Ledger(path).read()


Reader = Callable[[Path], object]

READERS: dict[str, tuple[str, Reader, list[bytes]]] = {
    "yaml": ("story.yaml", read_yaml, seeds(".yaml")),
    "lock": ("story.lock.yaml", read_lock, [LOCK.encode()]),
    "ledger": ("tale-1.json", read_ledger, [LEDGER.encode()]),
    "note": ("k.png", read_note, [b"0" * 64 + b" 7\nfrom panels/k " + b"0" * 64 + b"\n"]),
    "metadata": ("metadata.jsonl", read_metadata, seeds(".jsonl")),
    "safetensors": ("a.safetensors", head_of, seeds(".safetensors")),
    "card": ("a.safetensors", Card.read, seeds(".safetensors")),
    "png": ("a.png", open_picture, seeds(".png")),
    "font": ("a.ttf", check_font, [b"\x00\x01\x00\x00\x00\x01" + bytes(30)]),
}


@pytest.mark.parametrize("name", READERS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 60,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(chosen=st.data())
def test_whatever_is_in_a_file_is_an_error_of_ours(
    name: str, chosen: st.DataObject, tmp_path: Path
) -> None:
    file, read, known = READERS[name]
    path = tmp_path / file
    path.write_bytes(chosen.draw(changed(known)))
    with suppress(StoryForgeError, ValueError, OSError):
        read(path)
