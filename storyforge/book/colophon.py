"""The last page's words: who made the pictures, with which model and concepts, licences."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storyforge.book.leaf import Face
from storyforge.errors import EnvironmentProblem
from storyforge.headers.bases import look_at_base
from storyforge.headers.header import read_header
from storyforge.headers.kinds import licence_of
from storyforge.modelref import files_here, is_embedded
from storyforge.pictures import beside
from storyforge.provenance.xmp import together
from storyforge.settings import Made
from storyforge.story.story import Story


@dataclass(frozen=True, slots=True)
class Phrases:
    """The colophon's sentences in one language; `{…}` is filled in."""

    heading: str
    made_by: str
    by_hand: str
    partly: str
    hand_pages: str
    retouched_pages: str
    base: str
    concepts: str
    shared: str
    licence: str
    by: str
    unstated: str
    type: str
    pages: str
    cover: str
    title_page: str
    endpaper: str
    imprint: str
    back: str
    lives: str

    def notice(self, made: Made) -> str:
        """Who made the pictures, in a sentence or two."""
        return {"model": self.made_by, "hand": self.by_hand, "retouched": self.partly}[made]


_ENGLISH: Final = Phrases(
    heading="About this book",
    made_by="The pictures in this book were made by an AI image model, not by hand. "
    "The words were written in a story file, and storyforge set them.",
    by_hand="The pictures in this book were made by hand. The words were written in a story"
    " file, and storyforge set them.",
    partly="Some of the pictures in this book were made by an AI image model, wholly or in"
    " part. The words were written in a story file, and storyforge set them.",
    hand_pages="Made by hand, page {pages}.",
    retouched_pages="Made by the model and retouched by hand, page {pages}.",
    base="Base model: {base}",
    concepts="Concepts taught to the model:",
    shared="shared file",
    licence="licence {licence}",
    by="pictures by {author}",
    unstated="no licence stated",
    type="Set in {faces}.",
    pages="Page {number}",
    cover="Cover",
    title_page="Title page",
    endpaper="Endpaper",
    imprint="Copyright page",
    back="Back cover",
    lives="Who made this book",
)

_PHRASES: Final[dict[str, Phrases]] = {
    "en": _ENGLISH,
    "fr": Phrases(
        heading="À propos de ce livre",
        made_by="Les images de ce livre ont été faites par un modèle d’images (IA), non à la main. "
        "Les mots viennent d’un fichier d’histoire, et storyforge les a composés.",
        by_hand="Les images de ce livre ont été faites à la main. Les mots viennent d’un "
        "fichier d’histoire, et storyforge les a composés.",
        partly="Une partie des images de ce livre a été faite, entièrement ou en partie, par "
        "un modèle d’images (IA). Les mots viennent d’un fichier d’histoire, et "
        "storyforge les a composés.",
        hand_pages="Faites à la main, page {pages}.",
        retouched_pages="Faites par le modèle et retouchées à la main, page {pages}.",
        base="Modèle de base : {base}",
        concepts="Concepts appris par le modèle :",
        shared="fichier partagé",
        licence="licence {licence}",
        by="images de {author}",
        unstated="sans licence indiquée",
        type="Composé en {faces}.",
        pages="Page {number}",
        cover="Couverture",
        title_page="Page de titre",
        endpaper="Page de garde",
        imprint="Mentions légales",
        back="Quatrième de couverture",
        lives="Qui a fait ce livre",
    ),
    "de": Phrases(
        heading="Über dieses Buch",
        made_by="Die Bilder in diesem Buch hat ein KI-Bildmodell gemacht, keine Hand. "
        "Die Worte stehen in einer Geschichtendatei, und storyforge hat sie gesetzt.",
        by_hand="Die Bilder in diesem Buch sind von Hand gemacht. Die Worte stehen in einer "
        "Geschichtendatei, und storyforge hat sie gesetzt.",
        partly="Einen Teil der Bilder in diesem Buch hat, ganz oder zum Teil, ein KI-"
        "Bildmodell gemacht. Die Worte stehen in einer Geschichtendatei, und storyforge"
        " hat sie gesetzt.",
        hand_pages="Von Hand gemacht, Seite {pages}.",
        retouched_pages="Vom Modell gemacht und von Hand überarbeitet, Seite {pages}.",
        base="Grundmodell: {base}",
        concepts="Was das Modell gelernt hat:",
        shared="geteilte Datei",
        licence="Lizenz {licence}",
        by="Bilder von {author}",
        unstated="ohne Angabe einer Lizenz",
        type="Gesetzt in {faces}.",
        pages="Seite {number}",
        cover="Umschlag",
        title_page="Titelseite",
        endpaper="Vorsatz",
        imprint="Impressum",
        back="Rückseite",
        lives="Wer dieses Buch gemacht hat",
    ),
    "es": Phrases(
        heading="Sobre este libro",
        made_by="Las imágenes de este libro las hizo un modelo de imágenes (IA), no una mano. "
        "Las palabras vienen de un archivo de historia, y storyforge las compuso.",
        by_hand="Las imágenes de este libro están hechas a mano. Las palabras vienen de un "
        "archivo de historia, y storyforge las compuso.",
        partly="Una parte de las imágenes de este libro la hizo, del todo o en parte, un "
        "modelo de imágenes (IA). Las palabras vienen de un archivo de historia, y "
        "storyforge las compuso.",
        hand_pages="Hechas a mano, página {pages}.",
        retouched_pages="Hechas por el modelo y retocadas a mano, página {pages}.",
        base="Modelo base: {base}",
        concepts="Conceptos enseñados al modelo:",
        shared="archivo compartido",
        licence="licencia {licence}",
        by="imágenes de {author}",
        unstated="sin licencia indicada",
        type="Compuesto en {faces}.",
        pages="Página {number}",
        cover="Cubierta",
        title_page="Portada",
        endpaper="Guarda",
        imprint="Página de créditos",
        back="Contracubierta",
        lives="Quién hizo este libro",
    ),
    "he": Phrases(
        heading="על הספר הזה",
        made_by="התמונות בספר הזה נוצרו בידי מודל תמונות של בינה מלאכותית, ולא ביד. "
        "המילים נכתבו בקובץ סיפור, ו־storyforge סידר אותן.",
        by_hand="התמונות בספר הזה נעשו ביד. המילים נכתבו בקובץ סיפור, ו־storyforge סידר אותן.",
        partly="חלק מהתמונות בספר הזה נוצרו, כולן או מקצתן, בידי מודל תמונות של בינה מלאכותית."
        " המילים נכתבו בקובץ סיפור, ו־storyforge סידר אותן.",
        hand_pages="נעשו ביד, עמוד {pages}.",
        retouched_pages="נוצרו בידי המודל ותוקנו ביד, עמוד {pages}.",
        base="מודל הבסיס: {base}",
        concepts="מה שהמודל למד:",
        shared="קובץ משותף",
        licence="רישיון {licence}",
        by="תמונות מאת {author}",
        unstated="ללא רישיון מצוין",
        type="נסדר בגופנים {faces}.",
        pages="עמוד {number}",
        cover="כריכה",
        title_page="עמוד השער",
        endpaper="דף בטנה",
        imprint="עמוד זכויות",
        back="כריכה אחורית",
        lives="מי יצר את הספר",
    ),
}

RIGHT_TO_LEFT: Final = frozenset({"ar", "dv", "fa", "he", "ps", "ur", "yi"})
"""Languages whose lines run from right to left."""

_POCKET_LICENCE: Final = "Apache-2.0"
"""Of the model that comes with storyforge."""

_LONGEST_LICENCE: Final = 80
"""Letters; what is longer is a licence's text, not its name."""


def spoken_in(language: str) -> str:
    """The language that `phrases` answers in."""
    base = language.split("-")[0]
    return base if base in _PHRASES else "en"


def phrases(language: str) -> Phrases:
    """The sentences in `language`, or in English where they have not been translated."""
    return _PHRASES[spoken_in(language)]


def spoken(name: str) -> str:
    """A concept's name as a reader would say it: `old-owl` is `Old owl`."""
    said = name.replace("-", " ").replace("_", " ").strip()
    return said[:1].upper() + said[1:]


def colophon(story: Story, language: str, faces: tuple[Face, ...], made: Mapping[str, Made]) -> str:
    """The whole text, one paragraph a line.

    made  who made the picture of each panel
    """
    say, whole = phrases(language), together(list(made.values()))
    lines = [say.notice(whole), *_by_page(story, say, made)] if made else []
    if whole != "hand":
        lines += ["", *_model_lines(story, say)]
    named = dict.fromkeys(f"{face.family} ({face.licence})" for face in faces)
    lines += ["", say.type.format(faces=", ".join(named))]
    return "\n".join(lines).lstrip("\n")


def _by_page(story: Story, say: Phrases, made: Mapping[str, Made]) -> Iterator[str]:
    """Which pages' pictures a hand had part in, where not all are alike."""
    if len(set(made.values())) < 2:
        return
    for kind, sentence in (("hand", say.hand_pages), ("retouched", say.retouched_pages)):
        pages = dict.fromkeys(page for page, panel in story.panels() if made[panel.id] == kind)
        if pages:
            yield sentence.format(pages=", ".join(map(str, pages)))


def _model_lines(story: Story, say: Phrases) -> list[str]:
    """What drew the pictures: the base, LoRAs, concepts, each with its licence."""
    base = say.base.format(base=base_name(story))
    if licence := _base_licence(story):
        base = f"{base} – {say.licence.format(licence=licence)}"
    lines = [base]
    for lora in story.sampling.lora:
        stated = shared_licence(story.folder / lora.file)
        told = say.licence.format(licence=stated) if stated else say.unstated
        lines.append(f"LoRA: {Path(lora.file).stem} – {told}")
    if story.concepts:
        lines += [say.concepts]
        lines += [f"•\u00a0{_concept(story, name, say)}" for name in story.concepts]
    return lines


def base_name(story: Story) -> str:
    """The base model as a reader may see it: its name, without folders of this machine."""
    model = story.base_parts.model
    return Path(model).name if Path(model).is_absolute() else model


def _concept(story: Story, name: str, say: Phrases) -> str:
    concept = story.concepts[name]
    if isinstance(concept, Path):
        stated = shared_licence(concept)
        licence = say.licence.format(licence=stated) if stated else say.unstated
        return f"{spoken(name)} – {say.shared} – {licence}"
    parts = [f"{spoken(name)} ({concept.class_})"]
    if concept.author:
        parts.append(say.by.format(author=concept.author))
    licence = say.licence.format(licence=concept.licence) if concept.licence else say.unstated
    return " – ".join([*parts, licence])


def shared_licence(path: Path) -> str | None:
    """The licence that a concept's or LoRA's file states; None if it states none."""
    try:
        return _short(licence_of(read_header(path)))
    except EnvironmentProblem:
        return None


def _base_licence(story: Story) -> str | None:
    if is_embedded(story.base_parts.model):
        return _POCKET_LICENCE
    path = beside(story.folder, story.base_parts.model)
    path = path if os.path.exists(path) else files_here(story.base_parts.model)
    return _short(look_at_base(path).licence) if os.path.exists(path) else None


def _short(licence: str | None) -> str | None:
    return " ".join(licence.split())[:_LONGEST_LICENCE] if licence else None
