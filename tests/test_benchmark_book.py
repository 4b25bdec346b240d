"""The benchmark of books measures the command that it says it measures."""

from __future__ import annotations

import pytest

from benchmarks import book


def test_an_edited_caption_is_measured_to_the_finished_books() -> None:
    captions: list[str] = []

    def watched(story: book.Path, *words: str) -> float:
        captions.append(story.read_text(encoding="utf-8"))
        return book.set_book(story, *words)

    found = book.measure(1, ("pdf",), watched)
    assert len(captions) == len(set(captions)) == 3
    assert found["caption_edit_seconds"] > 0
    assert found["pages_per_second"] == pytest.approx(14 / found["all_formats_seconds"], rel=0.02)
