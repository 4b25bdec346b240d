"""The bound book: what a reader, a printer and a screen reader find in it."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pikepdf
import pytest
from bookmaking import written
from PIL import Image, ImageDraw

from storyforge.book import compose, lettering
from storyforge.book.formats import write_book
from storyforge.book.html import segments, write_html
from storyforge.book.leaf import Art, Balloon, Book, Picture, Point, Rect
from storyforge.book.page import bind, undrawn
from storyforge.book.pdf import write_pdf
from storyforge.book.picture import enlargement, jpeg
from storyforge.book.typeface import ANDIKA, COMIC_NEUE_BOLD, metrics, set_lines
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.provenance.xmp import DIGITAL_SOURCE
from storyforge.story.story import Story, read
from storyforge.story.trims import TRIMS

STORY = """\
storyforge: 1
title: {en: The Fox & the Lantern, fr: Le renard et la lanterne}
author: A. Author
characters: {pip: concepts/pip, owl: concepts/owl}
objects: {lantern: concepts/lantern}
book:
  trim: kdp-8.5x8.5
  cover: {panel: found, subtitle: A night story}
  dedication: For whoever is awake.
pages:
  - text: {en: "One night, Pip found a lantern.", fr: "Une nuit, Pip trouva une lanterne."}
    panels:
      - id: found
        prompt: night
        regions:
          left: {concept: pip, box: [0.05, 0.45, 0.4, 0.95]}
          right: {concept: lantern, box: [0.6, 0.6, 0.8, 0.95]}
        alt: {en: A fox beside a lantern., fr: Un renard près d’une lanterne.}
        say:
          - {who: pip, text: {en: Who left you here?, fr: Qui t’a laissée ici ?}}
  - text: <script>alert("x")</script> & other things that Owl wrote on the wall.
    panels:
      - id: owl
        regions: {one: {concept: owl, box: [0.3, 0.35, 0.7, 0.95]}}
        alt: An owl with "paint" on her wings.
        say: [{who: owl, text: "<b>Hush!</b>", kind: whisper}]
  - text: Then there were three.
    panels:
      - id: one
        regions: {a: {concept: pip, at: left}, b: {concept: owl, at: right}}
        alt: Both of them by day.
        say:
          - {who: pip, text: First!}
          - {who: owl, text: Second., kind: shout}
          - {text: "BONK", kind: sound}
      - {id: two, decorative: true}
      - id: three
        regions: {a: {concept: pip, at: centre}}
        alt: Pip asleep.
        say: [{who: pip, text: Honey…, kind: thought}, {text: Later, kind: caption}]
  - text: |
      The moon went down.

      The end.
"""

PANELS = ("found", "owl", "one", "two", "three")
ALTS = (
    "A fox beside a lantern.",
    'An owl with "paint" on her wings.',
    "Both of them by day.",
    "Pip asleep.",
)


def drawn(
    folder: Path, panels: tuple[str, ...], size: tuple[int, int] = (64, 64)
) -> dict[str, Art]:
    art = {}
    for index, panel in enumerate(panels):
        picture = Image.new("RGB", size, (40 + 30 * index, 120, 200 - 30 * index))
        ImageDraw.Draw(picture).ellipse((16, 24, 44, 60), fill=(240, 140, 40))
        path = folder / f"{panel}.png"
        picture.save(path)
        art[panel] = Art(panel, path, *size)
    return art


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("book")


@pytest.fixture(scope="module")
def story(folder: Path) -> Story:
    return written(folder, STORY)


@pytest.fixture(scope="module")
def art(folder: Path) -> dict[str, Art]:
    return drawn(folder, PANELS)


@pytest.fixture(scope="module")
def book(story: Story, art: dict[str, Art]) -> Book:
    return bind(story, art)


@pytest.fixture(scope="module")
def pdf(book: Book, folder: Path) -> Path:
    return write_pdf(book, folder / "book.pdf")


@pytest.fixture(scope="module")
def html(book: Book, folder: Path) -> str:
    return write_html(book, folder / "book.html").read_text(encoding="utf-8")


def pictures(book: Book) -> Mapping[str, Picture]:
    return {
        picture.art.panel: picture
        for leaf in book.leaves
        if leaf.kind == "story"
        for picture in leaf.pictures
    }


def altered(story: Story, page: int, **changes: object) -> Story:
    pages = list(story.pages)
    pages[page - 1] = pages[page - 1].model_copy(update=changes)
    return story.model_copy(update={"pages": tuple(pages)})


# The book


def test_leaves_come_in_the_order_of_a_book(book: Book) -> None:
    kinds = [leaf.kind for leaf in book.leaves]
    assert kinds == ["cover", "endpaper", "title", *["story"] * 4, "colophon", "endpaper", "back"]
    assert [leaf.number for leaf in book.leaves] == list(range(1, 11))
    shown = [p.art.panel for leaf in book.leaves[3:7] for p in leaf.pictures]
    assert shown == list(PANELS)


def test_the_back_cover_lies_on_the_left(story: Story, art: dict[str, Art]) -> None:
    for count in (3, 4):
        shorter = story.model_copy(update={"pages": story.pages[:count]})
        assert len(bind(shorter, art).leaves) % 2 == 0


def test_text_stays_inside_what_the_printer_calls_safe(book: Book) -> None:
    for leaf in book.leaves:
        safe = compose.Sheet(book.trim, outer_right=leaf.number % 2 == 1).safe.inset(-0.01)
        words = [text.rect for text in leaf.texts]
        words += [said.text for picture in leaf.pictures for said in picture.balloons]
        for rect in words:
            assert safe.holds(Point(rect.x, rect.y))
            assert safe.holds(Point(rect.right, rect.bottom))


def test_no_line_is_wider_than_its_block(book: Book) -> None:
    for leaf in book.leaves:
        for text in leaf.texts:
            widths = [metrics(text.face).width(line) * text.size for line in text.lines]
            assert max(widths) <= text.rect.width + 0.01


def test_story_text_is_large_enough_for_children(book: Book) -> None:
    sizes = [text.size for leaf in book.leaves for text in leaf.texts if text.role == "story"]
    assert min(sizes) >= 16


def test_pictures_do_not_overlap(book: Book) -> None:
    frames = [picture.frame for picture in pictures(book).values()][2:]
    assert len(frames) == 3
    for index, frame in enumerate(frames):
        assert not any(frame.common(other) for other in frames[index + 1 :])


def test_another_language_changes_words_and_keeps_pictures(
    story: Story, art: dict[str, Art], book: Book
) -> None:
    french = bind(story, art, "fr")
    assert french.title == "Le renard et la lanterne"
    assert pictures(french)["found"].alt == "Un renard près d’une lanterne."
    assert pictures(french)["found"].balloons[0].speaker == "Pip"
    assert "modèle d’images" in french.notice
    assert [p.art for p in pictures(french).values()] == [p.art for p in pictures(book).values()]


def test_the_colophon_names_model_concepts_and_licences(book: Book) -> None:
    colophon = next(leaf for leaf in book.leaves if leaf.kind == "colophon")
    text = " ".join(line for block in colophon.texts for line in block.lines)
    for fact in ("AI image model", "pocket", "Lantern", "CC-BY-4.0", "B. Painter", "Andika"):
        assert fact in text


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A story of one page and forty concepts, each with an author and a licence."""
    folder = tmp_path_factory.mktemp("crowd")
    names = [f"child-{number:02}" for number in range(40)]
    for name in names:
        (folder / name).mkdir()
        Image.new("RGB", (8, 8)).save(folder / name / "1.png")
        (folder / name / "concept.yaml").write_text(
            f"kind: character\nclass: child\nlicence: CC-BY-4.0\nauthor: The Painter of {name}\n"
        )
    cast = ", ".join(f"{name}: {name}" for name in names)
    path = folder / "story.yaml"
    path.write_text(
        f"storyforge: 1\ntitle: Crowd\ncharacters: {{{cast}}}\n"
        "pages: [{text: All., panels: [{id: all, prompt: a crowd, alt: A crowd.}]}]\n"
    )
    return read(path)


def test_a_colophon_of_forty_licences_runs_over_pages_and_leaves_none_out(crowded: Story) -> None:
    bound = bind(crowded, undrawn(crowded))
    leaves = [leaf for leaf in bound.leaves if leaf.kind == "colophon"]
    said = " ".join(line for leaf in leaves for text in leaf.texts for line in text.lines)
    assert len(leaves) > 1
    for number in range(40):
        assert said.count(f"Child {number:02} (child)") == 1
    assert [leaf.number for leaf in bound.leaves] == list(range(1, len(bound.leaves) + 1))
    assert len(bound.leaves) % 2 == 0


def test_no_line_of_a_colophon_leaves_its_page(crowded: Story) -> None:
    bound = bind(crowded, undrawn(crowded))
    for leaf in bound.leaves:
        for text in leaf.texts if leaf.kind == "colophon" else ():
            assert text.rect.y >= 0
            assert text.rect.bottom <= bound.trim.height * 72


def test_an_epub_knows_one_colophon_however_long_it_is(crowded: Story, tmp_path: Path) -> None:
    art = {
        name: replace(each, path=tmp_path / "all.png") for name, each in undrawn(crowded).items()
    }
    Image.new("RGB", (64, 64)).save(tmp_path / "all.png")
    path = write_book(bind(crowded, art), "epub", tmp_path / "book.epub", 0)
    with zipfile.ZipFile(path) as archive:
        navigation = archive.read("EPUB/nav.xhtml").decode()
    assert navigation.count('epub:type="colophon"') == 1


@pytest.mark.parametrize("trim", sorted(TRIMS))
def test_every_page_size_takes_the_story(story: Story, art: dict[str, Art], trim: str) -> None:
    settings = story.book.model_copy(update={"trim": trim})
    bound = bind(story.model_copy(update={"book": settings}), art)
    assert len(pictures(bound)) == len(PANELS)


@pytest.mark.parametrize("kind", ["full-bleed", "art-over-text", "text-beside-art", "grid"])
def test_every_kind_of_page_shows_picture_and_text(
    story: Story, art: dict[str, Art], kind: str
) -> None:
    leaf = bind(altered(story, 1, kind=kind), art).leaves[3]
    (picture,) = leaf.pictures
    (text,) = leaf.texts
    if kind == "full-bleed":
        assert text.plate
        assert picture.frame == compose.Sheet(TRIMS["kdp-8.5x8.5"], outer_right=False).bled
    else:
        assert picture.frame.common(text.rect) is None


# What the author must mend


def test_text_that_does_not_fit_names_its_page(story: Story, art: dict[str, Art]) -> None:
    long = altered(story, 2, text="There is always one more word to say. " * 60)
    with pytest.raises(StoryForgeError, match=r"^page 2: the text does not fit"):
        bind(long, art)


def test_balloons_that_do_not_fit_name_page_and_panel(story: Story, art: dict[str, Art]) -> None:
    panel = story.pages[0].panels[0]
    speech = panel.say[0].model_copy(update={"text": "And another thing! " * 90})
    talkative = panel.model_copy(update={"say": (speech,)})
    with pytest.raises(StoryForgeError, match=r"page 1, panel `found`: the balloons do not fit"):
        bind(altered(story, 1, panels=(talkative,)), art)


def test_a_character_that_no_font_has_is_named(story: Story, art: dict[str, Art]) -> None:
    with pytest.raises(StoryForgeError, match=r"page 3: .*`Andika` has no `竜` \(U\+7ADC"):
        bind(altered(story, 3, text="A 竜 appears."), art)


def test_lettering_falls_back_to_the_text_face(story: Story, art: dict[str, Art]) -> None:
    panel = story.pages[0].panels[0]
    speech = panel.say[0].model_copy(update={"text": "Кто здесь?"})
    russian = altered(story, 1, panels=(panel.model_copy(update={"say": (speech,)}),))
    assert pictures(bind(russian, art))["found"].balloons[0].face == ANDIKA


def test_all_missing_pictures_are_named(story: Story, art: dict[str, Art]) -> None:
    with pytest.raises(StoryForgeError, match=r"no picture yet for panel `found`, `three`"):
        bind(story, {name: art[name] for name in ("owl", "one", "two")})


def test_a_page_size_that_does_not_exist_is_met_with_the_nearest(
    story: Story, art: dict[str, Art]
) -> None:
    settings = story.book.model_copy(update={"trim": "kdp-8.5x8"})
    with pytest.raises(StoryForgeError, match=r"did you mean `kdp-8.5x8.5`"):
        bind(story.model_copy(update={"book": settings}), art)


def test_a_font_that_does_not_exist_is_an_environment_problem(
    story: Story, art: dict[str, Art]
) -> None:
    settings = story.book.model_copy(update={"font": "Nowhere Sans"})
    with pytest.raises(EnvironmentProblem, match=r"no font `Nowhere Sans`"):
        bind(story.model_copy(update={"book": settings}), art)


# Balloons


def balloons(book: Book) -> list[tuple[str, Balloon]]:
    return [(p.art.panel, said) for p in pictures(book).values() for said in p.balloons]


def test_tails_end_in_their_speakers_regions(book: Book, story: Story) -> None:
    panels = {panel.id: panel for _, panel in story.panels()}
    tails = [(panel, said) for panel, said in balloons(book) if said.tip is not None]
    assert len(tails) == 5
    for name, said in tails:
        picture, panel = pictures(book)[name], panels[name]
        frame, crop = picture.frame, picture.crop
        concept = (said.speaker or "").lower()
        region = next(key for key, value in panel.regions.items() if value.concept == concept)
        box = story.region_boxes(panel)[region]
        x = crop.x + (said.tip.x - frame.x) / frame.width * crop.width
        y = crop.y + (said.tip.y - frame.y) / frame.height * crop.height
        assert box.x0 <= x <= box.x1
        assert box.y0 - 0.12 <= y <= box.y1


def test_the_outline_reaches_the_tip_of_the_tail(book: Book) -> None:
    for _, said in balloons(book):
        if said.tip is None or said.kind == "thought":
            continue
        ends = [stroke.points[-1] for stroke in said.outlines[0] if stroke.points]
        assert said.tip in ends


def test_narrators_and_sounds_have_no_tail(book: Book) -> None:
    by_kind = {said.kind: said for _, said in balloons(book)}
    assert by_kind["caption"].tip is None
    assert by_kind["sound"].tip is None
    assert by_kind["sound"].outlines == ()


def test_balloons_keep_off_faces_when_there_is_room() -> None:
    body = Rect(100, 200, 150, 190)
    figure = lettering.Figure("pip", body, body, alive=True)
    stage = lettering.LetteringSpace(Rect(10, 10, 380, 380), (figure,), (), rtl=False)
    said = lettering.Utterance("speech", "pip", "Pip", "Who left you here?", COMIC_NEUE_BOLD, None)
    (placed,) = lettering.letter([said], stage, (16.0,)) or ()
    assert figure.face.common(placed.text) is None
    assert placed.text.bottom < figure.mouth.y


def test_balloons_and_the_text_plate_do_not_overlap(book: Book) -> None:
    for leaf in book.leaves:
        plates = [text.plate for text in leaf.texts if text.plate]
        words = [said.text for picture in leaf.pictures for said in picture.balloons]
        for index, rect in enumerate(words):
            assert not any(rect.common(other) for other in [*words[index + 1 :], *plates])


def test_a_balloon_goes_where_the_author_wants_it() -> None:
    stage = lettering.LetteringSpace(Rect(0, 0, 400, 400), (), (), rtl=False)
    wanted = Rect(250, 300, 100, 80)
    said = lettering.Utterance("speech", None, None, "Here.", COMIC_NEUE_BOLD, wanted)
    (placed,) = lettering.letter([said], stage, (14.0,)) or ()
    assert placed.text.centre() == pytest.approx(wanted.centre())


# Type


def test_lines_are_few_and_even() -> None:
    text = "one two three four five six"
    lines = set_lines(text, ANDIKA, metrics(ANDIKA).width("one two three four"))
    assert lines == ("one two three", "four five six")


def test_a_word_wider_than_the_line_does_not_fit() -> None:
    assert set_lines("a incomprehensibilities b", ANDIKA, 5.0) is None


def test_the_authors_line_ends_stay() -> None:
    assert set_lines("a\n\nb c\n", ANDIKA, 50.0) == ("a", "", "b c")


def test_a_line_breaks_at_no_no_break_space() -> None:
    measure = metrics(ANDIKA).width("Vraiment")
    assert set_lines("Vraiment ?", ANDIKA, measure) == ("Vraiment", "?")
    assert set_lines("Vraiment\u00a0?", ANDIKA, measure) is None
    wide = set_lines("Oui, vraiment\u00a0?", ANDIKA, measure * 1.5)
    assert wide == ("Oui,", "vraiment\u00a0?")


def test_one_text_carries_the_line_ends_of_page_and_phone() -> None:
    cut = segments(["Who left", "you here?"], ["Who", "left you", "here?"])
    assert [(piece.text, piece.on_page, piece.in_flow) for piece in cut] == [
        ("Who", False, True),
        ("left", True, False),
        ("you", False, True),
        ("here?", False, False),
    ]


# Pictures


def test_small_pictures_are_enlarged_softly_and_marked(art: dict[str, Art]) -> None:
    placed = Picture(art["found"], Rect(0, 0, 612, 612), Rect(0, 0, 1, 1), "square", None)
    assert enlargement(placed) == 4
    assert enlargement(replace(placed, frame=Rect(0, 0, 20, 20))) == 1
    content = jpeg(art["found"], 4)
    assert DIGITAL_SOURCE.encode() in content


def test_a_broken_picture_names_its_panel(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"not a picture")
    with pytest.raises(StoryForgeError, match="panel `x`"):
        jpeg(Art("x", path, 64, 64), 1)


# PDF


def figures(pdf: pikepdf.Pdf) -> list[str]:
    """The alt texts of all figures in reading order; a figure without one fails."""
    found: list[str] = []

    def walk(node: pikepdf.Object) -> None:
        if isinstance(node, pikepdf.Array):
            for kid in node:
                walk(kid)
        elif isinstance(node, pikepdf.Dictionary):
            if node.get("/S") == pikepdf.Name.Figure:
                found.append(str(node["/Alt"]))
            if "/K" in node:
                walk(node["/K"])

    walk(pdf.Root.StructTreeRoot["/K"])
    return found


def test_every_picture_is_a_figure_with_its_alt_text(pdf: Path) -> None:
    with pikepdf.open(pdf) as opened:
        assert figures(opened) == [ALTS[0], *ALTS]


def test_pages_have_the_trim_and_the_bleed_of_the_printer(pdf: Path) -> None:
    with pikepdf.open(pdf) as opened:
        assert len(opened.pages) == 10
        for number, page in enumerate(opened.pages, start=1):
            media = [float(value) for value in page.MediaBox]
            trim = [float(value) for value in page.TrimBox]
            left = 0.0 if number % 2 else 9.0
            assert media == pytest.approx([0, 0, 612 + 9, 612 + 18])
            assert trim == pytest.approx([left, 9, left + 612, 621])


def test_the_same_book_is_the_same_bytes(book: Book, pdf: Path, html: str, tmp_path: Path) -> None:
    assert write_pdf(book, tmp_path / "b.pdf").read_bytes() == pdf.read_bytes()
    assert write_html(book, tmp_path / "b.html").read_text(encoding="utf-8") == html
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.html", "b.pdf"]


def test_fonts_are_embedded_and_standards_declared(pdf: Path) -> None:
    with pikepdf.open(pdf) as opened:
        fonts = [item for item in opened.objects if isinstance(item, pikepdf.Dictionary)]
        fonts = [item for item in fonts if item.get("/Type") == pikepdf.Name.FontDescriptor]
        assert fonts
        assert all("/FontFile2" in font or "/FontFile3" in font for font in fonts)
        assert any("Andika" in str(font.FontName) for font in fonts)
        metadata = opened.open_metadata()
        assert metadata["pdfuaid:part"] == "1"
        assert (metadata["pdfaid:part"], metadata["pdfaid:conformance"]) == ("2", "A")
        assert metadata["dc:title"] == "The Fox & the Lantern"
        assert "trainedAlgorithmicMedia" in metadata["pdf:Keywords"]
        assert str(opened.Root.Lang) == "en"


# HTML


def test_the_html_says_that_a_model_made_the_pictures(html: str) -> None:
    named = f'<meta property="Iptc4xmpExt:DigitalSourceType" content="{DIGITAL_SOURCE}">'
    assert named in html


class Outline(HTMLParser):
    """Every tag with its attributes, and all text outside of style and script."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.raw = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.raw = tag in {"style", "script"}

    def handle_endtag(self, tag: str) -> None:
        self.raw = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self.raw else data


@pytest.fixture(scope="module")
def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    return parser


def test_html_loads_nothing_from_anywhere(html: str, outline: Outline) -> None:
    for _, attributes in outline.tags:
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert set(re.findall(r"url\(\"?([^:)]*)", html)) == {"data"}
    assert "@import" not in html


def test_html_has_the_alt_text_of_every_picture_in_order(outline: Outline) -> None:
    alts = [attributes["alt"] for tag, attributes in outline.tags if tag == "img"]
    assert alts == [ALTS[0], "", ALTS[0], ALTS[1], ALTS[2], "", ALTS[3]]


def test_html_shows_what_authors_write_as_text(outline: Outline) -> None:
    assert [tag for tag, _ in outline.tags].count("script") == 1
    assert "b" not in {tag for tag, _ in outline.tags}
    words = " ".join(outline.text.split())
    assert '<script>alert("x")</script> & other things' in words
    assert "Owl: <b>Hush!</b>" in words


def test_html_can_be_read_without_sight_or_mouse(html: str, outline: Outline) -> None:
    tags = dict(outline.tags)
    assert tags["html"] == {"lang": "en", "dir": "ltr"}
    assert [tag for tag, _ in outline.tags].count("h1") == 1
    assert all("aria-label" in attributes for tag, attributes in outline.tags if tag == "button")
    for feature in ("prefers-reduced-motion", ":focus-visible", "@media print", "ArrowRight"):
        assert feature in html


# Direction


def test_a_book_may_turn_its_pages_against_its_writing(
    story: Story, art: dict[str, Art], tmp_path: Path
) -> None:
    settings = story.book.model_copy(update={"direction": "rtl"})
    manga = bind(story.model_copy(update={"book": settings}), art)
    assert (manga.direction, manga.writing) == ("rtl", "ltr")
    parser = Outline()
    parser.feed(write_html(manga, tmp_path / "b.html").read_text(encoding="utf-8"))
    tags = dict(reversed(parser.tags))
    assert tags["html"]["dir"] == "ltr"
    assert tags["main"]["dir"] == "rtl"
    words = [attributes for tag, attributes in parser.tags if tag == "p"]
    assert words
    assert {attributes.get("dir") for attributes in words} == {"ltr"}
    with pikepdf.open(write_pdf(manga, tmp_path / "b.pdf")) as opened:
        lefts = [float(page.TrimBox[0]) for page in opened.pages]
        assert lefts == [9.0 if number % 2 else 0.0 for number in range(1, len(lefts) + 1)]
