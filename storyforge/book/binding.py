"""What composing every page needs from the story: its words, faces and figures, in one language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storyforge.book.colophon import RIGHT_TO_LEFT, Phrases, phrases, spoken
from storyforge.book.compose import STORY_SIZES, FramedPicture, RunningText, Sheet, sizes_from
from storyforge.book.inline import emphasised
from storyforge.book.leaf import (
    Art,
    Balloon,
    Direction,
    Face,
    Leaf,
    Point,
    Publication,
    Rect,
    TextBlock,
)
from storyforge.book.picture import changed
from storyforge.book.placing import Figure, Utterance
from storyforge.book.sighting import sighted
from storyforge.book.typeface import COMIC_NEUE, COMIC_NEUE_BOLD, face_for, faces_in, text_face
from storyforge.book.typography import typographic
from storyforge.book.unsettable import StoryPlace
from storyforge.errors import StoryForgeError
from storyforge.geometry.box import Box
from storyforge.provenance.found import found_boxes
from storyforge.story.book_settings import TrimSize
from storyforge.story.concept import text_in
from storyforge.story.isbn import digits_of
from storyforge.story.story import Page, Panel, Story
from storyforge.story.trims import Trim, trim_named, trim_of_size

_LOOSE: Final = 1.9
"""A region this much higher than wide is a column in which a figure stands, not its outline."""

_FIGURE: Final = 1.25
"""Height over width of a figure that stands in a column."""


def _standing(region: Rect, aspect: float) -> Rect:
    """Where a figure is in its region, in fractions: all of it, or the foot of a column."""
    width = region.width * aspect
    if region.height <= _LOOSE * width:
        return region
    height = _FIGURE * width
    return Rect(region.x, region.bottom - height, region.width, height)


def places(story: Story, panel: Panel, picture: Path) -> dict[str, Box]:
    """Where each of a panel's regions is: as the story says, or as it was found in the picture.

    Until a picture says where those are whose place is found, they stand side by side.
    """
    boxes = story.region_boxes(panel)
    sought = [name for name, shape in story.region_shapes(panel).items() if shape.auto]
    if not sought:
        return boxes
    found, share = found_boxes(picture), 1 / len(sought)
    for number, name in enumerate(sought):
        column = Box(x0=number * share, y0=0, x1=min(1.0, (number + 1) * share), y1=1)
        boxes[name] = found.get(name, column)
    return boxes


def trim_of(said: str | TrimSize) -> Trim:
    """The page size that a story asks for, by name or in lengths."""
    if isinstance(said, str):
        return trim_named(said)
    return trim_of_size(said.width, said.height, said.bleed, said.safe)


@dataclass(frozen=True, slots=True)
class Binding:
    """A story, its pictures by panel, and the language and page size of this edition."""

    story: Story
    art: Mapping[str, Art]
    language: str
    trim: Trim
    text_face: Face
    title_face: Face
    phones: bool = True

    @classmethod
    def of(
        cls, story: Story, art: Mapping[str, Art], language: str | None, *, phones: bool = True
    ) -> Binding:
        """Look up what the story names: its page size and its font.

        phones  whether balloons are set once more for small screens
        """
        return cls(
            phones=phones,
            story=story,
            art=art,
            language=language or story.language,
            trim=trim_of(story.book.trim),
            text_face=text_face(story.book.font, story.folder),
            title_face=text_face(story.book.title_font, story.folder)
            if story.book.title_font
            else COMIC_NEUE_BOLD,
        )

    @property
    def title(self) -> str:
        """The book's title."""
        return self.say(self.story.title)

    @property
    def author(self) -> str | None:
        """Who tells the story."""
        return self.say(self.story.author) if self.story.author else None

    @property
    def about(self) -> str | None:
        """What the book is about: its blurb."""
        cover = self.story.book.cover
        return " ".join(self.say(cover.blurb).split()) if cover and cover.blurb else None

    @property
    def published(self) -> Publication:
        """Who publishes the book, when and as what."""
        said = self.story.book.published
        return Publication(
            publisher=self.say(said.publisher) if said.publisher else None,
            edition=self.say(said.edition) if said.edition else None,
            date=said.date,
            rights=self.say(said.rights) if said.rights else None,
            isbn=digits_of(said.isbn) if said.isbn else None,
            isbn_ebook=digits_of(said.isbn_ebook) if said.isbn_ebook else None,
        )

    @property
    def writing(self) -> Direction:
        """Which way lines run."""
        return "rtl" if self.language.split("-")[0] in RIGHT_TO_LEFT else "ltr"

    @property
    def rtl(self) -> bool:
        """Whether pages turn, and panels are read, from right to left."""
        return (self.story.book.direction or self.writing) == "rtl"

    @property
    def phrases(self) -> Phrases:
        """The book's own sentences."""
        return phrases(self.language)

    def say(self, text: str | dict[str, str]) -> str:
        """A text of the story in the edition's language."""
        said = text_in(text, self.language, self.story.language)
        smart = self.story.book.typography == "smart"
        return typographic(said, self.language) if smart else said

    def set(self, text: str | dict[str, str]) -> str:
        """The same for print, with its emphasis as marks if the author wants it set."""
        said = self.say(text)
        return emphasised(said) if self.story.book.typography == "smart" else said

    def words(self, text: str, face: Face, page: Page) -> RunningText:
        """A page's text in its face, with the sizes that its letters may have."""
        book = self.story.book
        largest = page.text_size or book.text_size
        sizes = STORY_SIZES if largest is None else sizes_from(largest)
        color = page.text_color or book.text_color
        return RunningText(text, face, self.language, sizes, book.plate, color, page.text_place)

    def sheet(self, number: int) -> Sheet:
        """The empty page `number`; odd pages lie on the right, or on the left of an RTL book."""
        return Sheet(self.trim, outer_right=(number % 2 == 1) != self.rtl, rtl=self.rtl)

    def face_for(self, text: str, preferred: Face, where: str, place: StoryPlace) -> Face:
        """The preferred face if it can draw the text, else the text face, else an error."""
        return face_for(text, preferred, self.text_face, where, place)

    def faces_of(self, leaves: Iterable[Leaf]) -> tuple[Face, ...]:
        """Every face that the leaves use, each once."""
        used: dict[Face, None] = {}
        for leaf in leaves:
            items: list[TextBlock | Balloon] = list(leaf.texts)
            for picture in leaf.pictures:
                items += (*picture.balloons, *picture.small)
            for item in items:
                used |= dict.fromkeys(faces_in(item.lines, item.face))
        return tuple(used)

    def check_pictures(self) -> None:
        """Raise StoryForgeError, naming them all, if panels have no picture."""
        missing = [f"`{panel.id}`" for _, panel in self.story.panels() if panel.id not in self.art]
        if missing:
            raise StoryForgeError(
                f"no picture yet for panel {', '.join(missing)}",
                hint="draw them with `storyforge render`",
            )

    def subject(self, panel: Panel) -> FramedPicture:
        """What the panel's picture shows, and where."""
        art = self.art[panel.id]
        regions = {
            name: Rect(box.x0, box.y0, box.width, box.height)
            for name, box in places(self.story, panel, art.path).items()
        }
        figures = []
        for (name, region), (body, head, known) in zip(
            regions.items(), self._seen(panel, regions), strict=True
        ):
            concept = panel.regions[name].concept
            stands = body or _standing(region, art.width / art.height)
            alive = concept in self.story.characters
            seen = body is not None
            figures.append(Figure(concept, region, stands, alive, seen, head, planned=not known))
        quiet = tuple(Rect(box.x0, box.y0, box.width, box.height) for box in panel.quiet)
        taken = tuple(
            Rect(said.at.x0, said.at.y0, said.at.width, said.at.height)
            for said in panel.say
            if said.at is not None
        )
        uncut = panel.fit == "contain"
        return FramedPicture(
            art.width / art.height, tuple(figures), quiet, taken, art.height, uncut
        )

    def _seen(
        self, panel: Panel, regions: Mapping[str, Rect]
    ) -> list[tuple[Rect | None, Rect | None, bool]]:
        """Of each region the body and the head of its subject, where they were made out, and
        whether it is known if its head shows.

        Colours show a body's outline; that the right one was looked at, only its words say.
        """
        # Where somebody is in a picture of the author's own, its regions say.
        if panel.picture is not None:
            return [(None, None, True)] * len(regions)
        art = self.art[panel.id]
        told = {each.region: each for each in art.subjects}
        bodies = sighted(art.path, changed(art), tuple(regions.values()))
        found: list[tuple[Rect | None, Rect | None, bool]] = []
        for name, body in zip(regions, bodies, strict=True):
            drawn = told.get(name)
            if drawn is None:
                found.append((body, None, False))
                continue
            right = body is not None and drawn.head is not None and body.holds(drawn.head.centre())
            found.append((body if right and not drawn.exact else drawn.body, drawn.head, True))
        return found

    def alt(self, panel: Panel) -> str | None:
        """The picture in words; None if it is decorative.

        Without the author's words, who is shown and the prompt stand in for them.
        """
        if panel.decorative:
            return None
        if panel.alt:
            return self.say(panel.alt)
        cast = ", ".join(spoken(name) for name in self.story.cast(panel))
        return ": ".join(part for part in (cast, panel.prompt) if part) or panel.id

    def says(self, panel: Panel, frame: Rect, crop: Rect, where: str) -> tuple[Utterance, ...]:
        """What is said in the panel, with asked-for places in points of the page."""
        return tuple(self.said(panel, turn, frame, crop, where) for turn in self.turns(panel))

    def turns(self, panel: Panel) -> tuple[int, ...]:
        """The numbers, from 0, of the panel's utterances that say something."""
        return tuple(n for n, speech in enumerate(panel.say) if self.set(speech.text).strip())

    def said(self, panel: Panel, turn: int, frame: Rect, crop: Rect, where: str) -> Utterance:
        """One of the panel's utterances, by its number from 0."""
        speech = panel.say[turn]
        text = self.set(speech.text)
        quiet = speech.kind in {"whisper", "caption"}
        return Utterance(
            kind=speech.kind,
            who=speech.who,
            speaker=spoken(speech.who) if speech.who else None,
            text=text,
            face=self.face_for(
                text,
                COMIC_NEUE if quiet else COMIC_NEUE_BOLD,
                where,
                ("panel", panel.id, "say", turn),
            ),
            language=self.language if speech.kind != "sound" else None,
            off=speech.from_,
            pointed=None
            if speech.tail is None
            else Point(
                frame.x + (speech.tail[0] - crop.x) * frame.width / crop.width,
                frame.y + (speech.tail[1] - crop.y) * frame.height / crop.height,
            ),
            at=None
            if speech.at is None
            else Rect(
                frame.x + (speech.at.x0 - crop.x) * frame.width / crop.width,
                frame.y + (speech.at.y0 - crop.y) * frame.height / crop.height,
                speech.at.width * frame.width / crop.width,
                speech.at.height * frame.height / crop.height,
            ),
        )
