"""A sound story with one mistake: exactly one finding, with its code, at its place.

The place where the finding belongs is marked `¦` in what is put in.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storyforge.story.codes import catalogue
from storyforge.story.layout import shipped
from storyforge.story.story import check

STORY = """\
storyforge: 1
title: The Fox and the Lantern
language: en
base: pocket
style: soft light
seed: 7
characters:
  pip: concepts/pip
  juna: concepts/juna
objects:
  lantern: concepts/lantern
scenes:
  wood: concepts/wood
sampling: {steps: 20}
book:
  trim: square-8.5
  font: Andika
  formats: [pdf, html]
  cover: {panel: found, subtitle: A tale}
pages:
  - text: One night, Pip found a lantern.
    panels:
      - id: found
        scene: wood
        layout: two-side-by-side
        prompt: night, fireflies
        regions:
          left: {concept: pip, prompt: waving}
          right: {concept: lantern, prompt: glowing}
        alt: A fox lifts a lantern.
        say: [{who: pip, text: Who left you here?}]
  - kind: grid
    grid: 1x2
    panels:
      - id: juna
        layout: one-centre
        regions:
          centre: {concept: juna}
        alt: Juna waves.
      - {id: snow, prompt: snow, alt: Nobody is there.}
  - text: The end.
"""

FRENCH = """\
title: Le Renard
pages: {1: Une nuit., 3: Fin.}
panels:
  found: {alt: Un renard., say: [Qui est là ?]}
  juna: {alt: Juna salue.}
  snow: {alt: Personne.}
book: {cover: {subtitle: Un conte}}
"""

HILL = "  - kind: spread\n    panels: [{id: hill, prompt: a hill, decorative: true}]"
FOLD = HILL.replace("prompt: a hill", "regions: {¦fox: {concept: pip, box: [0.25, 0.2, 0.75, 1]}}")

CONCEPT = "storyforge: 1\nkind: character\nclass: fox\n"

STORY_FILE, PIP, LOCALE, LAYOUT = (
    "story.yaml",
    "concepts/pip/concept.yaml",
    "locales/fr.yaml",
    "layouts/own.yaml",
)


def in_story(code: str, *changes: tuple[str, str]) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    return STORY_FILE, code, changes


JUNA = "centre: {concept: juna}"
ALT = "        alt: Juna"
PANEL = "      - {id: snow, prompt: snow, alt: Nobody is there.}\n"

MUTATIONS = [
    # 1xx: what cannot be read
    in_story("SF101", ("title: The", "title: ¦\x1bThe")),
    in_story("SF101", ("title: The", "title: ¦\0The")),
    in_story("SF102", ("title: The", "title: Pip¦: The")),
    in_story("SF102", ("title: The Fox", "title: ¦'The Fox")),
    in_story("SF102", ("say: [{", "say: ¦[[{")),
    in_story("SF102", ("  pip: con", "¦\tpip: con")),
    in_story("SF102", ("title: The", "title: ¦!!python/name:os.system The")),
    in_story("SF102", ("title: The", "title: ¦*The")),
    in_story("SF102", ("          left:", "          ¦<<: {}\n          left:")),
    in_story("SF102", ("  - text: The end.", "¦---\n  - text: The end.")),
    in_story("SF103", ("seed: 7", "seed: 7\n¦seed: 8")),
    in_story("SF103", ("        alt: Juna", "        alt: Juna\n        ¦alt: Juna")),
    in_story("SF104", ("title: The", "title: &a [¦*a]\n# The")),
    in_story("SF104", ("title: The", "title: " + "[" * 31 + "¦[" + "]" * 32 + "\n# The")),
    # 2xx: form
    in_story("SF200", ("    panels:\n      - id: juna", "    ¦panles:\n      - id: juna")),
    in_story("SF200", ("seed: 7", "¦sead: 7")),
    in_story("SF200", ("{concept: pip, prompt", "{concept: pip, ¦promt")),
    in_story("SF200", ("{steps: 20}", "{¦step: 20}")),
    in_story("SF200", ("  trim:", "  ¦size:")),
    in_story("SF201", ("storyforge: 1\ntitle", "¦title")),
    in_story("SF201", ("title: The Fox and the Lantern\n", ""), ("storyforge:", "¦storyforge:")),
    in_story("SF201", ("{id: snow, prompt", "¦{prompt")),
    in_story("SF201", ("{who: pip, text: Who left you here?}", "¦{who: pip}")),
    in_story("SF202", ("storyforge: 1", "storyforge: ¦2")),
    in_story("SF202", ("title: The", "title: ¦[The]\n# ")),
    in_story("SF202", ("title: The", "title: {¦english: The}\n# ")),
    in_story("SF202", ("language: en", "language: ¦English")),
    in_story("SF202", ("seed: 7", "seed: ¦seven")),
    in_story("SF202", ("seed: 7", "seed: ¦-7")),
    in_story("SF202", ("seed: 7", "¦seed:")),
    in_story("SF202", ("{steps: 20}", "{steps: ¦0}")),
    in_story("SF202", ("{steps: 20}", "{scheduler: ¦eular}")),
    in_story("SF202", ("{steps: 20}", "{region_blend: ¦2}")),
    in_story("SF202", ("kind: grid", "kind: ¦gird")),
    in_story("SF202", ("grid: 1x2", "grid: ¦2")),
    in_story("SF202", ("formats: [pdf, html]", "formats: [pdf, ¦docx]")),
    in_story("SF202", ("{concept: juna}", "{concept: juna, at: ¦midle}")),
    in_story("SF202", ("{concept: juna}", "{concept: juna, box: ¦[0, 0, 1]}")),
    in_story("SF202", ("{concept: juna}", "{concept: juna, box: ¦[1, 0, 0, 1]}")),
    in_story("SF202", ("{concept: juna}", "¦{concept: juna, at: left, box: [0, 0, 1, 1]}")),
    in_story("SF202", ("{who: pip, text", "{who: pip, kind: ¦wisper, text")),
    in_story("SF202", ("  juna: con", "  ¦7na: concepts/juna\n  juna: con")),
    # 3xx: what it refers to
    in_story("SF300", ("{concept: pip,", "{concept: ¦pipp,")),
    in_story("SF300", ("scene: wood", "scene: ¦woood")),
    in_story("SF300", ("who: pip", "who: ¦pipp")),
    in_story("SF301", ("two-side-by-side", "¦two-sides")),
    in_story("SF302", ("          left:", "          ¦lefd:")),
    in_story("SF302", ("        layout: one-centre\n", ""), ("  centre:", "  ¦centre:")),
    in_story("SF303", ("juna: concepts/juna", "juna: ¦concepts/june")),
    in_story("SF303", ("juna: concepts/juna", "juna: ¦juna.safetensors")),
    in_story("SF303", ("juna: concepts/juna", "juna: ¦layouts")),
    in_story("SF303", ("{concept: juna}", "{concept: juna, mask: ¦mask.png}")),
    in_story("SF303", (ALT, f"        control: [{{adapter: a/b, picture: ¦pose.png}}]\n{ALT}")),
    in_story("SF303", (ALT, f"        control: [{{draw: pose, adapter: ¦my/own/pose}}]\n{ALT}")),
    in_story("SF302", (ALT, f"        control: [{{draw: pose, region: ¦centr}}]\n{ALT}")),
    in_story("SF303", ("{steps: 20}", "{lora: [{file: ¦lcm.safetensors}]}")),
    in_story("SF303", (ALT, f"        refine: {{picture: ¦first.png}}\n{ALT}")),
    in_story("SF303", ("font: Andika", "font: ¦Andika.ttf")),
    in_story("SF304", ("{concept: juna}", "{concept: juna, box: ¦[0, 0, 1, 1.5]}")),
    in_story("SF304", ("{concept: juna}", "{concept: juna, at: ¦A1:D1}")),
    in_story("SF304", ("{who: pip, text", "{who: pip, at: ¦[-0.2, 0, 0.4, 0.3], text")),
    in_story("SF305", ("who: pip", "who: ¦juna")),
    in_story("SF306", ("id: snow", "id: ¦found")),
    in_story("SF307", ("juna: concepts/juna", "juna: ¦https://example.org/juna")),
    in_story("SF308", ("  lantern: con", "  ¦pip: concepts/lantern\n  lantern: con")),
    in_story("SF309", ("juna: concepts/juna", "juna: ¦concepts/lantern")),
    in_story("SF310", ("{panel: found", "{panel: ¦fund")),
    in_story("SF311", ("night, fireflies", "night, ¦<pipp> asleep")),
    in_story("SF311", ("style: soft light", 'style: "soft ¦<ligth>"')),
    in_story("SF311", ("{concept: juna}", "{concept: juna, negative: ¦<juno>}")),
    in_story("SF312", ("square-8.5", "¦square-85")),
    in_story("SF313", ("font: Andika", "font: ¦Comic Sans")),
    in_story("SF339", ("formats: [pdf, html]", "formats: [pdf, ¦cover]")),
    in_story("SF441", ("square-8.5", "¦ingram-8x10")),
    in_story("SF314", ("grid: 1x2", "grid: ¦1x1")),
    in_story("SF315", ("  - text: The end.", "  - kind: ¦blank\n    text: The end.")),
    in_story("SF316", ("kind: grid\n    grid: 1x2", "kind: ¦full-bleed")),
    in_story("SF316", ("  - text: The end.", "  - kind: ¦text-beside-art\n    text: The end.")),
    in_story("SF316", ("  - text: The end.", "  - kind: ¦spread\n    text: The end.")),
    in_story("SF303", ("font: Andika", "font: Andika\n  upscale: ¦models/none.pth")),
    in_story(
        "SF321", ("  - text: The end.", f"  - text: The end.\n{HILL.replace('kind: ', 'kind: ¦')}")
    ),
    in_story("SF322", ("  - text: The end.", f"  - text: The end.\n  - kind: blank\n{FOLD}")),
    in_story("SF422", ("A tale}", "A tale, blurb: ¦Who lost it?}")),
    in_story("SF325", ("{steps: 20}", "{steps: 20, decode: ¦300}")),
    in_story("SF320", ("  - text: One", "  - kind: full-bleed\n    grid: ¦1x1\n    text: One")),
    in_story("SF303", ("juna: concepts/juna", "juna: ¦''")),
    in_story("SF328", ("{concept: juna}", "{concept: juna, mask: ¦concepts/pip/concept.yaml}")),
    in_story(
        "SF328", (ALT, f"        control: [{{adapter: pocket/sketch, picture: ¦{PIP}}}]\n{ALT}")
    ),
    in_story("SF328", (ALT, f"        refine: {{picture: ¦{PIP}}}\n{ALT}")),
    # 4xx: what is probably not meant
    in_story(
        "SF400", ("{id: snow, prompt: snow, alt: Nobody is there.}", "¦{id: snow, prompt: snow}")
    ),
    in_story("SF401", ("  juna: con", "  ¦owl: concepts/juna\n  juna: con")),
    in_story("SF402", ("          centre: {", "          ¦centre: {box: [0, 0, 0.2, 1], ")),
    in_story("SF403", (JUNA, JUNA + "\n          ¦low: {at: B2, prompt: moss}")),
    in_story("SF404", ("prompt: night,", "¦prompt: " + "night, " * 61)),
    in_story("SF405", ("one-centre", "¦two-side-by-side"), ("  centre: {", "  left: {")),
    in_story("SF408", (PANEL, PANEL + "  - ¦{}\n")),
    in_story("SF409", ("  cover: {panel: found, ", "  cover: ¦{")),
    in_story("SF411", (JUNA, JUNA + "\n          low: {at: A1, concept: ¦juna}")),
    in_story("SF412", (JUNA, JUNA + "\n          top: {at: A1, concept: ¦wood}")),
    in_story("SF413", ("  - text: The end.", "  - kind: ¦grid\n    text: The end.")),
    in_story("SF413", ("  - text: The end.", "  - kind: ¦strip\n    text: The end.")),
    in_story("SF413", ("  - text: The end.", "  - grid: ¦1x2\n    text: The end.")),
    in_story("SF414", ("{id: snow, prompt: snow,", "¦{id: snow,")),
    in_story("SF415", ("text: Who left you here?", "text: ¦''")),
    in_story("SF416", ("seed: 7", "seed: 7\nsize: [512, ¦500]")),
    in_story("SF416", ("id: snow,", "id: snow, size: [¦250, 256],")),
    in_story("SF417", ("alt: Nobody is", "decorative: true, ¦alt: Nobody is")),
    in_story("SF418", ("alt: Nobody is there.", "alt: ¦juna  waves.")),
    in_story("SF419", ("alt: Nobody", "alt: ¦A picture of snow. Nobody")),
    in_story("SF420", ("[pdf, html]", "[pdf, html, ¦pdf]")),
    in_story("SF330", ("base: pocket", "base: ¦poket")),
    in_story("SF421", ("base: pocket", "base: ¦../models/dream.safetensors")),
    in_story("SF422", ("  - text: The end.", "  - text: The end.\n  - text: ¦Or is it?")),
    # other files
    (PIP, "SF105", ((CONCEPT, "¦# nothing yet\n"),)),
    (PIP, "SF200", (("class:", "¦clas:"),)),
    (PIP, "SF202", (("character", "¦charakter"),)),
    (PIP, "SF202", (("class: fox", "class: ¦' '"),)),
    (PIP, "SF303", (("class: fox", "class: fox\nimages: ¦photos"),)),
    (PIP, "SF303", (("class: fox", "class: fox\ntrain: {clip: ¦./clip, keep: best}"),)),
    (LAYOUT, "SF202", (("at: left", "at: ¦lefd"),)),
    (LAYOUT, "SF304", (("at: left", "box: ¦[0, 0, 2, 1]"),)),
    (LAYOUT, "SF302", (("{at: left}", "¦{z: 1}"),)),
    (LOCALE, "SF317", (("  snow:", "  ¦snwo:"),)),
    (LOCALE, "SF317", (("{1: Une", "{¦7: Trop., 1: Une"),)),
    (LOCALE, "SF318", (("{1: Une nuit.", "{2: ¦Rien., 1: Une nuit."),)),
    (LOCALE, "SF318", (("Qui est là ?]", "Qui est là ?, ¦Moi !]"),)),
]

ELSEWHERE = {"SF100", "SF319", "SF406", "SF407", "SF410", "SF900"}
"""Codes that no single edit of one file makes; their tests are below and in test_languages."""

ELSEWHERE |= {"SF330", "SF331", "SF332", "SF430", "SF431", "SF432", "SF433", "SF434"}
ELSEWHERE |= {"SF333", "SF438", "SF439"}
"""Those of models and files of other tools; test_check_models, test_transformers and
test_pictures_of_others test them."""

ELSEWHERE |= {
    "SF323",
    "SF324",
    "SF326",
    "SF327",
    "SF329",
    "SF333",
    "SF334",
    "SF335",
    "SF336",
    "SF337",
    "SF338",
    "SF440",
    "SF423",
}
ELSEWHERE |= {"SF435", "SF436", "SF437"}
"""Those of what is set and planned; test_fit, test_check_and_plan and test_typography test them."""


def name_of(mutation: tuple[str, str, tuple[tuple[str, str], ...]]) -> str:
    return f"{mutation[1]} {mutation[2][-1][1].strip()[:30]!r}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the sound story and all that it refers to."""
    kinds = {"pip": "character", "juna": "character", "lantern": "object", "wood": "scene"}
    for name, kind in kinds.items():
        folder = tmp_path / "concepts" / name
        folder.mkdir(parents=True)
        (folder / "concept.yaml").write_text(CONCEPT.replace("character", kind))
        (folder / "1.png").write_bytes(b"")
    for name, text in ((STORY_FILE, STORY), (LOCALE, FRENCH)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "layouts").mkdir()
    (tmp_path / LAYOUT).write_text("description: mine\nregions:\n  one: {at: left}\n")
    return tmp_path


def findings(project: Path) -> list[str]:
    """Every finding as `file:line:col CODE`, the file as seen from the project."""
    return [
        f"{Path(found.file).relative_to(project)}:{found.line}:{found.column} {found.code}"
        for found in check(project / STORY_FILE)
    ]


def test_the_story_itself_is_sound(project: Path) -> None:
    assert findings(project) == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=name_of)
def test_one_mistake_is_one_finding_at_its_place(
    mutation: tuple[str, str, tuple[tuple[str, str], ...]], project: Path
) -> None:
    name, code, changes = mutation
    path = project / name
    if name == LAYOUT:
        story = STORY.replace("layout: one-centre", "layout: own").replace("centre: {", "one: {")
        (project / STORY_FILE).write_text(story)
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    before = text[: text.index("¦")]
    path.write_text(text.replace("¦", ""), encoding="utf-8")
    place = f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
    if name == STORY_FILE and code != "SF422":
        (project / LOCALE).unlink()
    assert findings(project) == [f"{name}:{place} {code}"]


def test_every_code_has_its_mutated_story() -> None:
    found_by_others = ("SF5", "SF6", "SF7")  # preflight, `concept check`, pins
    of_check = {code for code in catalogue() if not code.startswith(found_by_others)}
    assert {code for _, code, _ in MUTATIONS} | ELSEWHERE == of_check
    assert len(MUTATIONS) > 60


def test_a_file_that_is_not_there_is_one_finding(project: Path) -> None:
    (project / STORY_FILE).unlink()
    assert findings(project) == ["story.yaml:1:1 SF100"]


def test_an_absolute_path_is_one_finding(project: Path) -> None:
    text = STORY.replace("juna: concepts/juna", f"juna: {project}/concepts/juna")
    (project / STORY_FILE).write_text(text)
    assert findings(project) == ["story.yaml:9:9 SF407"]


def test_a_text_without_the_storys_language_is_one_finding(project: Path) -> None:
    (project / LOCALE).unlink()
    (project / STORY_FILE).write_text(
        "storyforge: 1\ntitle: {fr: Le Renard}\npages: [kind: blank]\n"
    )
    assert findings(project) == ["story.yaml:2:8 SF406"]


def test_a_file_full_of_mistakes_ends_with_a_count(project: Path) -> None:
    (project / STORY_FILE).write_text(STORY + "".join(f"x{index}: 1\n" for index in range(300)))
    assert findings(project)[-1].endswith("SF900")


SIGNS = b"\0\t\n\r !\"#%&'*,-.0:;<=>?@[\\]`{|}~\x7f\x80\xc3\xe2\xff"


def mutilated(data: bytes, draw: random.Random) -> bytes:
    """One to four bytes changed, put in, taken out, or a stretch said twice."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed))
        match draw.randrange(4):
            case 0:
                changed[at] = draw.choice(SIGNS)
            case 1:
                changed.insert(at, draw.choice(SIGNS))
            case 2:
                del changed[at : at + draw.choice((1, 1, 3, 40))]
            case _:
                changed[at:at] = changed[at : at + draw.choice((2, 20, 200))]
    return bytes(changed)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """The sample stories with their concepts' words, of each only one picture."""
    for kind in ("stories", "layouts"):
        shutil.copytree(shipped(kind), tmp_path / kind, ignore=shutil.ignore_patterns("fonts"))
    for folder in shipped("concepts").iterdir():
        if (folder / "concept.yaml").is_file():
            (tmp_path / "concepts" / folder.name).mkdir(parents=True)
            shutil.copy(folder / "concept.yaml", tmp_path / "concepts" / folder.name)
            (tmp_path / "concepts" / folder.name / "1.png").write_bytes(b"")
    return tmp_path / "stories"


def test_300_random_mutilations_of_the_samples_yield_no_traceback(samples: Path) -> None:
    draw = random.Random(7)
    originals = {path: path.read_bytes() for path in sorted(samples.glob("*.yaml"))}
    target = samples / "mutilated.yaml"
    told = 0
    for _ in range(300):
        target.write_bytes(mutilated(draw.choice(list(originals.values())), draw))
        found = check(target)
        told += bool(found)
        assert all(each.line >= 1 and each.column >= 1 and each.message for each in found)
        assert {each.code for each in found} <= set(catalogue())
    assert told > 200


def test_an_alias_bomb_of_a_gigabyte_is_refused_at_once_and_without_torch(project: Path) -> None:
    lines = ["a0: &a0 " + "x" * 1000]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 7)]
    (project / STORY_FILE).write_text(STORY + "\n".join(lines) + "\n")
    program = (
        "import sys, time; from pathlib import Path; from storyforge.story.story import check\n"
        "began = time.process_time(); found = check(Path(sys.argv[1]))\n"
        "assert [each.code for each in found] == ['SF104'], found\n"
        "assert time.process_time() - began < 1\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", program, str(project / STORY_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
