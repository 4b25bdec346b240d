"""A hardcover's case: boards and spine covered by one paper, which is turned in all round.

Takes a paperback's wrap and moves its three parts onto the boards, off the hinges. How large boards
stand out and paper is turned in, each printer says; the story passes it on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from storyforge.book.compose import moved
from storyforge.book.leaf import Barcode, Leaf, Picture, Rect, TextBlock
from storyforge.story.story import Story
from storyforge.story.trims import POINTS_PER_INCH, Trim, length_in

_SLACK: Final = 0.01
"""Points by which rounding may part a picture from the edge that it lies on."""


@dataclass(frozen=True, slots=True)
class Case:
    """The case of a book of pages of this trim; lengths in inches."""

    trim: Trim
    board: float
    overhang: float
    hinge: float
    wrap: float

    @classmethod
    def of(cls, story: Story, trim: Trim) -> Case | None:
        """The book's case; None for a paperback."""
        said = story.book.print
        if said.binding == "paperback":
            return None
        lengths = (said.case.board, said.case.overhang, said.case.hinge, said.case.wrap)
        return cls(trim, *(length_in(each) or 0.0 for each in lengths))

    def laid_flat(self, spine: float) -> Trim:
        """The paper: what lies on boards, hinges and spine is a page, what is turned in bleeds."""
        return replace(
            self.trim,
            name=f"{self.trim.name}-case",
            width=2 * (self.trim.width + self.overhang + self.hinge) + spine,
            height=self.trim.height + 2 * self.overhang,
            bleed=self.wrap,
            inner_bleed=self.wrap,
        )

    def covered(self, leaf: Leaf, spine: float) -> Leaf:
        """A paperback's wrap on the boards; the spine's width in points."""
        return replace(
            leaf,
            pictures=tuple(self._laid(item, spine) for item in leaf.pictures),
            texts=tuple(self._shifted(text, spine) for text in leaf.texts),
            codes=tuple(self._shifted_code(code, spine) for code in leaf.codes),
        )

    def _aside(self, x: float, spine: float) -> float:
        """How far what stands at `x` of the paperback's wrap moves to the right, in points."""
        width = self.trim.width * POINTS_PER_INCH
        hinges = 0 if x < width else 1 if x < width + spine else 2
        return (self.overhang + hinges * self.hinge) * POINTS_PER_INCH

    def _laid(self, item: Picture, spine: float) -> Picture:
        """A picture on its side: turned in where it runs off the page, else moved as words are."""
        width, frame = self.trim.width * POINTS_PER_INCH, item.frame
        if frame.x <= _SLACK or frame.right >= 2 * width + spine - _SLACK:
            return self._turned_in(item, spine)
        by, over = self._aside(frame.centre().x, spine), self.overhang * POINTS_PER_INCH
        return replace(item, frame=replace(frame, x=frame.x + by, y=frame.y + over))

    def _turned_in(self, item: Picture, spine: float) -> Picture:
        """A picture over its whole side, and as far round the boards as the paper goes."""
        width, height = (each * POINTS_PER_INCH for each in (self.trim.width, self.trim.height))
        over, turned = self.overhang * POINTS_PER_INCH, self.wrap * POINTS_PER_INCH
        panel = width + over + self.hinge * POINTS_PER_INCH
        on_right = item.frame.centre().x > width + spine / 2
        top = -turned if item.frame.y <= 0 else item.frame.y + over
        foot = height + 2 * over + turned
        if item.frame.bottom < height:
            foot = item.frame.bottom + over
        frame = Rect(panel + spine if on_right else -turned, top, panel + turned, foot - top)
        return replace(item, frame=frame, crop=_filling(frame, item))

    def _shifted(self, text: TextBlock, spine: float) -> TextBlock:
        by, over = self._aside(text.rect.centre().x, spine), self.overhang * POINTS_PER_INCH
        plate = text.plate and replace(text.plate, x=text.plate.x + by, y=text.plate.y + over)
        return replace(moved(text, text.rect.x + by, text.rect.y + over), plate=plate)

    def _shifted_code(self, code: Barcode, spine: float) -> Barcode:
        by, over = self._aside(code.rect.centre().x, spine), self.overhang * POINTS_PER_INCH
        return replace(code, rect=replace(code.rect, x=code.rect.x + by, y=code.rect.y + over))


def _filling(frame: Rect, item: Picture) -> Rect:
    """The part of a picture that fills a larger frame about the same middle."""
    aspect, wanted = item.art.width / item.art.height, frame.width / frame.height
    width, height = min(1.0, wanted / aspect), min(1.0, aspect / wanted)
    middle = item.crop.centre()
    x = min(max(middle.x - width / 2, 0.0), 1 - width)
    y = min(max(middle.y - height / 2, 0.0), 1 - height)
    return Rect(x, y, width, height)
