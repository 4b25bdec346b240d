"""The mark that a trained model made the pictures: in PNG, in PDF, and on bytes alone."""

from __future__ import annotations

import io
from pathlib import Path

import pikepdf
import pytest
from bookmaking import hostile, written
from headed import base_folder, shared_concept
from PIL import Image
from support import hub_of

from storyforge.book.colophon import colophon
from storyforge.book.pdf import write_pdf
from storyforge.book.typeface import ANDIKA, text_face
from storyforge.provenance.xmp import DIGITAL_SOURCE, XMP_CHUNK, mark_pdf, marked_png
from storyforge.story.layout import shipped
from storyforge.story.story import read

SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def png() -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (3, 2), (10, 20, 30)).save(made, "PNG")
    return made.getvalue()


def test_a_marked_png_is_the_same_picture_with_the_source_type() -> None:
    with Image.open(io.BytesIO(marked_png(png()))) as picture:
        picture.load()
        assert DIGITAL_SOURCE in picture.info[XMP_CHUNK]
        assert (picture.size, picture.getpixel((0, 0))) == ((3, 2), (10, 20, 30))


def test_a_png_is_marked_once() -> None:
    assert marked_png(marked_png(png())) == marked_png(png())


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a book whose title and author try to be markup."""
    folder = tmp_path_factory.mktemp("hostile")
    return write_pdf(hostile(folder), folder / "book.pdf")


def test_a_pdf_says_what_made_its_pictures_and_keeps_its_standards(pdf: Path) -> None:
    with pikepdf.open(pdf) as opened:
        assert opened.check_pdf_syntax() == []
        metadata = opened.open_metadata()
        assert metadata[SOURCE_TYPE] == DIGITAL_SOURCE
        assert (metadata.pdfa_status, metadata["pdfuaid:part"]) == ("2A", "1")
        packet = opened.Root.Metadata.read_bytes().decode()
    assert "<pdfaSchema:prefix>Iptc4xmpExt</pdfaSchema:prefix>" in packet
    assert "<pdfaProperty:name>DigitalSourceType</pdfaProperty:name>" in packet


def test_marking_twice_says_it_once(pdf: Path) -> None:
    with pikepdf.open(pdf) as opened:
        before = opened.Root.Metadata.read_bytes()
        mark_pdf(opened)
        assert opened.Root.Metadata.read_bytes() == before


def test_what_is_no_such_pdf_is_not_marked() -> None:
    with pikepdf.new() as empty, pytest.raises(ValueError, match="cannot be marked"):
        mark_pdf(empty)


def test_the_colophon_names_licences_of_models_concepts_and_fonts(tmp_path: Path) -> None:
    (tmp_path / "concepts").mkdir()
    stated = {"modelspec.license": "CC-BY-SA-4.0"}
    shared_concept(tmp_path / "concepts" / "shared.safetensors", **stated)
    shared_concept(tmp_path / "concepts" / "plain.safetensors")
    story = written(
        tmp_path,
        "storyforge: 1\ntitle: T\nobjects: {lantern: concepts/lantern}\n"
        "characters: {shared: concepts/shared.safetensors, plain: concepts/plain.safetensors}\n"
        "pages: [{text: Once.}]\n",
    )
    said = colophon(story, "en", (ANDIKA,), {"one": "model"})
    assert "pocket – licence Apache-2.0" in said
    assert "Lantern (lantern) – pictures by B. Painter – licence CC-BY-4.0" in said
    assert "Shared – shared file – licence CC-BY-SA-4.0" in said
    assert "Plain – shared file – no licence stated" in said
    assert "Andika (SIL Open Font License 1.1)" in said


def test_the_colophon_names_the_licence_of_a_base_in_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    base = base_folder(tmp_path / "base")
    (base / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    text = "storyforge: 1\ntitle: T\nbase: owner/tiny\npages: [{text: Once.}]\n"
    story = written(tmp_path, text)
    assert "licence cc-by-nc-4.0" not in colophon(story, "en", (ANDIKA,), {"one": "model"})
    hub_of(base, tmp_path / "hub")
    assert "owner/tiny – licence cc-by-nc-4.0" in colophon(story, "en", (ANDIKA,), {"one": "model"})


def test_the_samples_font_file_names_its_licence() -> None:
    folder = shipped("stories")
    assert text_face("fonts/VarelaRound-Regular.ttf", folder).licence == ANDIKA.licence


def test_a_hebrew_book_speaks_hebrew_about_itself() -> None:
    story = read(shipped("stories") / "good-night.yaml")
    assert "מודל הבסיס: pocket" in colophon(story, "he", (), {"one": "model"})
