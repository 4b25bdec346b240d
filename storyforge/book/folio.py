"""Page numbers: at the foot towards the outer edge, where nothing else stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from storyforge.book.binding import Binding
from storyforge.book.compose import Sheet
from storyforge.book.leaf import Leaf, Rect, TextBlock
from storyforge.book.typeface import metrics

_SIZE: Final = 11.0
_LEADING: Final = 1.3
_PAD: Final = (7.0, 2.5)


def numbered(binding: Binding, leaf: Leaf, sheet: Sheet) -> Leaf:
    """The page with its number, if the book wants one and there is room for it.

    The first page inside the cover is page 1, as it is in the printed book.
    """
    if not binding.story.book.page_numbers:
        return leaf
    words = str(leaf.number - 2)
    face = binding.face_for(words, binding.text_face, "page numbers", ("book", "font"))
    width = metrics(face).width(words) * _SIZE
    high = _SIZE * _LEADING
    safe = sheet.safe
    x = safe.right - width - _PAD[0] if sheet.outer_right else safe.x + _PAD[0]
    rect = Rect(x, safe.bottom - high - _PAD[1], width, high)
    plate = rect.inset(-_PAD[0], -_PAD[1])
    taken = [text.plate or text.rect for text in leaf.texts]
    taken += [said.text for item in leaf.pictures for said in item.balloons]
    if any(plate.common(other) for other in taken):
        return leaf
    on_art = any(plate.common(item.frame) for item in leaf.pictures)
    block = TextBlock(
        "folio", words, (words,), rect, _SIZE, _LEADING, face, plate=plate if on_art else None
    )
    return replace(leaf, texts=(*leaf.texts, block))
