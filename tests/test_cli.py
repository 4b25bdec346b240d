"""The command line from the first story to the finished book, on a model of random weights."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from support import hear_interrupts
from tiny import smallest_pipeline
from typer.testing import CliRunner, Result

from storyforge.cli.program import app
from storyforge.errors import StoryForgeError
from storyforge.sample import sampler
from storyforge.store import Store
from storyforge.story.layout import shipped
from storyforge.story.story import read
from storyforge.tasks import PanelTask

STORY = """
storyforge: 1
title: A
base: ../base
sampling: {steps: 2}
fuse: {steps: 2}
characters: {pip: ../concepts/pip, owl: ../concepts/owl}
pages:
  - text: Once upon a time.
    panels:
      - {id: one, prompt: day, regions: {a: {at: left, concept: pip}}, alt: A fox.}
  - text: The end.
    panels:
      - {id: two, prompt: fog, regions: {a: {at: right, concept: owl}}, alt: An owl.}
"""


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def document(result: Result) -> dict[str, dict[str, int]]:
    """The one JSON document that a command printed."""
    content = json.loads(result.stdout)
    assert content["schema_version"] == 1
    return content


def made(result: Result) -> dict[str, int]:
    assert result.exit_code == 0, result.output
    return document(result)["made"]


NOTHING = {"concepts": 0, "fused": 0, "panels": 0, "books": 0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, two concepts and a story, rendered once."""
    world = tmp_path_factory.mktemp("world")
    smallest_pipeline().save_pretrained(world / "base")
    for number, (name, noun) in enumerate([("pip", "fox"), ("owl", "owl")]):
        folder = world / "concepts" / name
        folder.mkdir(parents=True)
        settings = "train: {steps: 2, batch_size: 1, prior_share: 0}"
        (folder / "concept.yaml").write_text(f"kind: character\nclass: {noun}\n{settings}\n")
        Image.new("RGB", (8, 8), (90 * number, 80, 70)).save(folder / "1.png")
    (world / "first").mkdir()
    (world / "first" / "story.yaml").write_text(STORY)
    return world


@pytest.fixture(scope="module", autouse=True)
def _few_steps() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def rendered(world: Path) -> Path:
    story = world / "first" / "story.yaml"
    result = invoke("render", story, "--json", "--jobs", 1)
    assert made(result) == {"concepts": 2, "fused": 1, "panels": 2, "books": 2}
    return story


@pytest.fixture
def story(rendered: Path, world: Path, tmp_path: Path) -> Path:
    """A story of its own with everything made, in the same world."""
    folder = world / tmp_path.name
    shutil.copytree(rendered.parent, folder)
    return folder / "story.yaml"


def edit(story: Path, old: str, new: str) -> None:
    text = story.read_text()
    assert old in text
    story.write_text(text.replace(old, new))


def test_a_second_render_makes_nothing(story: Path) -> None:
    result = invoke("render", story, "--json")
    assert made(result) == NOTHING
    assert document(result)["skipped"] == {"concepts": 2, "fused": 1, "panels": 2, "books": 2}
    assert [Path(book).name for book in document(result)["books"]] == [
        f"{story.parent.name}.pdf",
        f"{story.parent.name}.html",
    ]


def test_a_changed_caption_draws_nothing(story: Path) -> None:
    edit(story, "Once upon a time.", "Long ago.")
    assert made(invoke("render", story, "--json")) == NOTHING | {"books": 2}


def test_a_changed_prompt_draws_one_picture(story: Path) -> None:
    edit(story, "prompt: fog", "prompt: sun")
    assert made(invoke("render", story, "--json")) == NOTHING | {"panels": 1, "books": 2}


def test_only_the_panels_asked_for_are_drawn(story: Path) -> None:
    edit(story, "title: A", "title: A\nseed: 4")
    result = invoke("render", story, "--json", "--only", "two")
    assert made(result) == NOTHING | {"panels": 1}
    assert document(result)["books"] == []
    assert made(invoke("render", story, "--json")) == NOTHING | {"panels": 1, "books": 2}


def test_lost_pictures_are_drawn_one_by_one_if_one_is_asked_for(story: Path) -> None:
    for picture in (story.parent / ".storyforge" / "panels").iterdir():
        picture.unlink()
    assert made(invoke("render", story, "--json", "--only", "two")) == NOTHING | {"panels": 1}


def test_pictures_can_be_seen_while_they_are_drawn(story: Path, tmp_path: Path) -> None:
    words = ("--only", "two", "--steps", 6, "--previews", tmp_path / "looks")
    assert made(invoke("render", story, "--json", *words))["panels"] == 1
    assert [path.name for path in (tmp_path / "looks").iterdir()] == ["two.png"]


def test_books_are_the_same_wherever_they_are_put(story: Path, tmp_path: Path) -> None:
    result = invoke("render", story, "--out", tmp_path / "out", "--to", "html")
    name = f"{story.parent.name}.html"
    assert result.stdout.split() == [str(tmp_path / "out" / name)]
    first = (story.parent / "build" / "first.html").read_bytes()
    assert (tmp_path / "out" / name).read_bytes() == first


def test_a_book_has_every_format(story: Path) -> None:
    result = invoke("book", story, "--to", "cbz,epub")
    assert result.exit_code == 0, result.output
    books = [Path(line) for line in result.stdout.splitlines()]
    assert [book.suffix for book in books] == [".epub", ".cbz"]
    assert all(zipfile.is_zipfile(book) for book in books)


def test_a_lost_book_is_laid_out_again_and_a_good_one_left_alone(story: Path) -> None:
    invoke("render", story)
    pdf, html = (story.parent / "build" / f"{story.parent.name}.{end}" for end in ("pdf", "html"))
    pdf.unlink()
    before = html.stat().st_mtime_ns
    assert made(invoke("render", story, "--json")) == NOTHING
    assert pdf.is_file()
    assert html.stat().st_mtime_ns == before


def test_nothing_to_make_needs_no_torch(story: Path) -> None:
    program = (
        "import sys, storyforge.cli\n"
        f"sys.argv = ['storyforge', 'render', {str(story)!r}]\n"
        "try: storyforge.cli.app()\n"
        "except SystemExit as exc: assert not exc.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_failed_panel_leaves_the_others(story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sampler.pictures

    def spoilt(context: sampler.SamplingContext, tasks: list[PanelTask]) -> list[np.ndarray]:
        if tasks[0].panel == "one":
            raise StoryForgeError("the picture came out black")
        return whole(context, tasks)

    monkeypatch.setattr(sampler, "pictures", spoilt)
    edit(story, "prompt: day", "prompt: snow")
    edit(story, "prompt: fog", "prompt: rain")
    result = invoke("render", story, "--json")
    assert result.exit_code == 4
    content = json.loads(result.stdout)
    assert content["made"] == NOTHING | {"panels": 1}
    assert [failed["subject"] for failed in content["failed"]] == ["panel one"]
    assert "error: panel one:" in result.stderr


def test_a_failed_concept_leaves_the_others(story: Path, world: Path) -> None:
    for name in ("good", "bad"):
        shutil.copytree(world / "concepts" / "pip", story.parent / name)
        with (story.parent / name / "concept.yaml").open("a") as file:
            file.write("author: Ana\n")
    edit(story, "../concepts/pip", "bad")
    edit(story, "../concepts/owl", "good")
    Image.new("RGB", (8, 8), "red").save(story.parent / "good" / "1.png")
    (story.parent / "bad" / "1.png").write_bytes(b"no picture")
    result = invoke("render", story, "--json", "--jobs", 1)
    assert result.exit_code == 4
    assert json.loads(result.stdout)["made"] == NOTHING | {"concepts": 1}
    assert [failed["subject"] for failed in json.loads(result.stdout)["failed"]] == ["concept pip"]


def test_words_that_do_not_fit_are_known_before_anything_is_drawn(story: Path) -> None:
    edit(story, "The end.", "endless " * 2000)
    edit(story, "prompt: fog", "prompt: rain")
    result = invoke("render", story, "--json")
    assert result.exit_code == 1
    assert "page 2" in json.loads(result.stdout)["error"]["message"]


def test_the_book_alone_needs_every_picture(story: Path) -> None:
    edit(story, "prompt: fog", "prompt: rain")
    result = invoke("book", story)
    assert result.exit_code == 1
    assert "not drawn, or changed since: `two`" in result.stderr


def test_the_book_alone_speaks_other_languages(story: Path) -> None:
    edit(story, "title: A", "title: {en: A, fr: B}")
    result = invoke("book", story, "--lang", "fr", "--to", "html")
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()).name.endswith(".fr.html")
    assert "SF422 warning: page 1 is not in `fr`" in result.stderr
    assert "the title" not in result.stderr


def test_a_locale_file_makes_an_edition_and_draws_nothing(story: Path) -> None:
    (story.parent / "locales").mkdir()
    texts = "title: B\npages: {1: Il était une fois., 2: Fin.}\n"
    alts = "panels: {one: {alt: Un renard.}, two: {alt: Un hibou.}}\n"
    (story.parent / "locales" / "fr.yaml").write_text(texts + alts, encoding="utf-8")
    result = invoke("book", story, "--lang", "fr", "--to", "html", "--json")
    assert made(result) == NOTHING | {"books": 1}
    assert "SF422" not in result.stderr
    page = Path(json.loads(result.stdout)["books"][0]).read_text(encoding="utf-8")
    assert "Il était une fois." in page
    assert "Once upon a time." not in page
    unknown = invoke("book", story, "--lang", "de")
    assert unknown.exit_code == 1
    assert unknown.stderr.count("error:") == 1
    assert "no text is in `de`, only in `en`, `fr`" in unknown.stderr


def test_a_story_trains_the_concepts_named(story: Path, world: Path) -> None:
    shutil.copytree(world / "concepts", story.parent / "concepts")
    edit(story, "../concepts", "concepts")
    for name in ("pip", "owl"):
        Image.new("RGB", (8, 8), "blue").save(story.parent / "concepts" / name / "2.png")
    learnt = invoke("train", story, "owl", "--json")
    assert made(learnt) == NOTHING | {"concepts": 1}
    assert "owl:1:1 SF650 warning: 2 pictures" in learnt.stderr
    (card,) = json.loads(learnt.stdout)["concepts"]
    assert (card["name"], card["recipe"]["method"]) == ("owl", "ed-lora")
    assert card["drift"] >= 0
    assert json.loads(invoke("concept", "show", "owl", story, "--json").stdout)["drift"] >= 0
    assert "not learnt yet" in invoke("concept", "show", "pip", story).stderr
    assert made(invoke("train", story, "owl", "--json")) == NOTHING
    result = invoke("fuse", story, "--json", "--jobs", 1)
    assert made(result) == NOTHING | {"concepts": 1, "fused": 1}


def test_a_fusion_is_reported_and_merged(story: Path) -> None:
    report, merged = story.parent / "report", story.parent / "merged"
    result = invoke("fuse", story, "--report", report, "--merge", merged, "--json")
    assert made(result) == NOTHING
    assert set(json.loads((report / "fusion.json").read_text())["residuals"]) == {"pip", "owl"}
    assert (report / "fusion.html").read_text().startswith("<!doctype html>")
    assert StableDiffusionPipeline.from_pretrained(merged).tokenizer.encode("<pip>")
    again = invoke("fuse", story, "--merge", merged)
    assert again.exit_code == 1
    assert "is not empty" in again.stderr


def test_a_sheet_shows_what_is_drawn(story: Path) -> None:
    result = invoke("sheet", story)
    assert result.exit_code == 0, result.output
    with Image.open(result.stdout.strip()) as sheet:
        assert sheet.height > sheet.width


def test_a_plan_says_why(story: Path) -> None:
    edit(story, "prompt: fog", "prompt: rain")
    plan = json.loads(invoke("plan", story, "--json").stdout)
    assert [task["subject"] for task in plan["tasks"] if task["state"] == "stale"] == [
        *("panel two", "book pdf en", "book html en")
    ]
    text = invoke("plan", story)
    assert "stale" in text.stdout
    assert "3 to make" in text.stderr


def test_a_plan_fails_in_ci_when_something_is_stale(story: Path) -> None:
    invoke("render", story)
    assert invoke("plan", story, "--check").exit_code == 0
    edit(story, "prompt: fog", "prompt: rain")
    result = invoke("plan", story, "--check", "--json")
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert content["stale"] == 3
    assert content["chains"] == ["prompt changed → panel `two` → 2 books"]
    assert all(content["total"][name] > 0 for name in ("seconds", "memory", "bytes"))


def test_a_plan_guesses_times_before_anything_was_made(story: Path) -> None:
    shutil.rmtree(story.parent / ".storyforge")
    result = invoke("plan", story, "--json")
    total = json.loads(result.stdout)["total"]
    assert total.pop("rough") is True
    assert all(amount > 0 for amount in total.values())
    assert "unknown" not in invoke("plan", story).output


def test_one_of_several_takes_is_picked_and_bound(story: Path) -> None:
    invoke("render", story)
    result = invoke("render", story, "two", "--takes", 3, "--json")
    assert made(result) == NOTHING | {"panels": 2}
    (sheet,) = json.loads(result.stdout)["sheets"]
    assert sheet == str(story.parent / "build" / f"{story.parent.name}.two.takes.png")
    with Image.open(sheet) as picture:
        assert picture.width > picture.height / 2
    assert made(invoke("render", story, "two", "--takes", 3, "--json")) == NOTHING
    picked = invoke("pick", story, "two", 2)
    assert picked.exit_code == 0, picked.output
    assert "`take: 0` of the story" in picked.stderr
    (pinned,) = (story.parent / "pins").glob("*.png")
    result = invoke("render", story, "--json")
    assert made(result) == NOTHING | {"books": 2}
    assert json.loads(result.stdout)["pinned"] == ["two"]
    with Image.open(pinned) as picture:
        assert picture.format == "PNG"


def test_a_pinned_panel_survives_a_retrained_concept(story: Path, world: Path) -> None:
    shutil.copytree(world / "concepts", story.parent / "concepts")
    edit(story, "../concepts", "concepts")
    invoke("render", story)
    before = Path(invoke("pin", story, "one").stdout.strip()).read_bytes()
    Image.new("RGB", (8, 8), "blue").save(story.parent / "concepts" / "owl" / "2.png")
    assert "ignores: concept `owl` retrained" in invoke("plan", story).stdout
    result = invoke("render", story, "--jobs", 1)
    assert "pinned, kept as they are: `one`" in result.stderr
    assert "made 1 concept, 1 fused model, 1 panel, 2 books" in result.stderr
    (pinned,) = (story.parent / "pins").glob("*.png")
    assert pinned.read_bytes() == before
    assert invoke("unpin", story, "one").stdout.split() == ["one"]
    assert made(invoke("render", story, "--json")) == NOTHING | {"panels": 1, "books": 2}


def test_a_story_of_pinned_pictures_is_bound_without_torch_or_store(story: Path) -> None:
    invoke("render", story)
    assert len(invoke("pin", story).stdout.split()) == 2
    assert "pinned already" in invoke("pin", story).stderr
    shutil.rmtree(story.parent / ".storyforge")
    program = (
        "import sys, storyforge.cli\n"
        f"sys.argv = ['storyforge', 'render', {str(story)!r}, '--to', 'html']\n"
        "try: storyforge.cli.app()\n"
        "except SystemExit as exc: assert not exc.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_an_interrupted_drawing_says_how_to_go_on(
    story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    edit(story, "prompt: fog", "prompt: rain")
    monkeypatch.setattr("storyforge.sample.sampler.draw_panels", interrupt)
    result = invoke("render", story)
    assert result.exit_code == 130
    assert "run the same command again to go on" in result.stderr
    monkeypatch.undo()
    assert made(invoke("render", story, "--json")) == NOTHING | {"panels": 1, "books": 2}


def products(result: Result) -> list[dict[str, str]]:
    return json.loads(result.stdout)["products"]


def test_what_is_seen_of_the_base_and_of_two_concepts_is_kept_for_every_later_fusion(
    story: Path,
) -> None:
    invoke("render", story)
    kinds = [each["kind"] for each in products(invoke("cache", "ls", story, "--json"))]
    assert kinds.count("statistics") == 3


def test_what_no_story_needs_any_more_is_collected(story: Path) -> None:
    invoke("render", story)
    edit(story, "prompt: fog", "prompt: sun")
    shutil.rmtree(story.parent / ".storyforge" / "ledgers")
    invoke("render", story)
    refused = invoke("cache", "gc", story.parent)
    assert refused.exit_code == 1
    assert "--yes" in refused.stderr
    assert "no story needs it" in refused.stderr
    gone = products(invoke("cache", "gc", story.parent, "--yes", "--json"))
    assert sorted(each["kind"] for each in gone) == ["html", "panels", "pdf"]
    assert products(invoke("cache", "gc", story.parent, "--json")) == []


def test_a_damaged_picture_is_set_aside_by_verify_and_drawn_again_by_render(story: Path) -> None:
    invoke("render", story)
    assert invoke("cache", "verify", story).exit_code == 0
    listed = products(invoke("cache", "ls", story, "--json"))
    picture = next(each["path"] for each in listed if each["kind"] == "panels")
    Path(picture).write_bytes(b"x")
    result = invoke("cache", "verify", story, "--json")
    assert result.exit_code == 1
    assert [each["path"] for each in products(result)] == [picture]
    assert invoke("cache", "verify", story.parent, "--repair").exit_code == 2
    assert made(invoke("render", story, "--json")) == NOTHING | {"panels": 1}


def test_a_folder_without_a_store_is_an_error(tmp_path: Path) -> None:
    result = invoke("cache", "ls", tmp_path)
    assert result.exit_code == 1
    assert "hint:" in result.stderr


def test_a_running_render_keeps_nobody_out(story: Path) -> None:
    with Store(story.parent / ".storyforge").at_work():
        assert invoke("render", story, "--json").exit_code == 0


def test_a_missing_base_is_told_with_its_exit_code(story: Path) -> None:
    edit(story, "../base", "../none")
    result = invoke("render", story)
    assert result.exit_code == 3
    assert "error: no model at" in result.stderr


def test_a_base_that_cannot_be_read_is_told_once(story: Path) -> None:
    (story.parent / "broken").mkdir()
    (story.parent / "broken" / "notes.txt").write_text("no model here")
    edit(story, "../base", "broken")
    result = invoke("render", story, "--jobs", 1)
    assert result.exit_code == 1
    assert f"{story}:" in result.stderr
    assert result.stderr.count("broken") == 1


def test_every_mistake_of_a_story_is_listed(story: Path) -> None:
    edit(story, "concept: pip", "concept: pipp")
    edit(story, "title: A", "titel: A")
    result = invoke("check", story)
    assert result.exit_code == 1
    assert f"{story}:3:1 SF200" in result.stdout
    assert "did you mean `pip`?" in result.stdout
    rendered = invoke("render", story)
    assert rendered.exit_code == 1
    assert "SF200" in rendered.stderr
    assert rendered.stdout == ""


def test_findings_have_forms_for_people_and_machines(story: Path) -> None:
    edit(story, ", alt: A fox.", "")
    assert invoke("check", story).exit_code == 0
    assert invoke("check", story, "--strict").exit_code == 1
    assert "warning: " in invoke("check", story).stdout
    (finding,) = json.loads(invoke("check", story, "--format", "json").stdout)["findings"]
    assert (finding["code"], finding["severity"]) == ("SF400", "warning")
    (run,) = json.loads(invoke("check", story, "--format", "sarif").stdout)["runs"]
    assert [result["ruleId"] for result in run["results"]] == ["SF400"]
    line = invoke("check", story, "--format", "github").stdout
    assert line.startswith(f"::warning file={story},line=")


def test_a_command_that_is_no_command_is_a_usage_error(story: Path) -> None:
    assert invoke("rendr").exit_code == 2
    assert invoke("render", story, "--to", "docx").exit_code == 2
    assert invoke("render", story, "--jobs", 0).exit_code == 2


def test_an_unknown_panel_is_named_with_the_one_meant(story: Path) -> None:
    result = invoke("render", story, "--only", "tow")
    assert result.exit_code == 1
    assert "did you mean `two`?" in result.stderr


def test_the_schema_is_json() -> None:
    assert json.loads(invoke("schema").stdout)["title"] == "storyforge story"
    assert json.loads(invoke("schema", "locale").stdout)["title"] == "storyforge locale"
    assert invoke("schema", "tale").exit_code == 2


def test_layouts_are_listed() -> None:
    listed = json.loads(invoke("layout", "list", "--json").stdout)["layouts"]
    assert {path.stem for path in shipped("layouts").glob("*.yaml")} == {
        layout["name"] for layout in listed
    }


def test_a_new_story_is_without_mistakes(tmp_path: Path) -> None:
    result = invoke("init", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    story = tmp_path / "demo" / "story.yaml"
    assert invoke("check", story, "--strict").stdout == ""
    assert read(story).languages() == ("en", "fr")
    concepts = tmp_path / "demo" / "concepts"
    assert {spec.parent.parent for spec in concepts.glob("*/concept.yaml")} == {concepts}
    again = invoke("init", tmp_path / "demo")
    assert again.exit_code == 1
    assert "is not empty" in again.stderr


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_training_that_was_ended_goes_on_where_it_was(
    story: Path, world: Path, sign: signal.Signals
) -> None:
    shutil.copytree(world / "concepts" / "pip", story.parent / "pip")
    edit(story, "../concepts/pip", "pip")
    spec = story.parent / "pip" / "concept.yaml"
    spec.write_text(spec.read_text().replace("steps: 2", "steps: 120"))
    process = subprocess.Popen(
        [sys.executable, "-m", "storyforge", "train", str(story), "pip"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )
    scratch = story.parent / ".storyforge" / "scratch"
    deadline = time.monotonic() + 120
    while not list(scratch.glob("*/state.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sign)
    _, told = process.communicate(timeout=60)
    assert "Traceback" not in told
    if sign == signal.SIGINT:
        assert process.returncode == 130
        assert re.search("interrupted; kept: .*; run the same command again to go on", told)
    result = invoke("train", story)
    assert result.exit_code == 0, result.output
    first = next(line for line in result.stderr.splitlines() if "learning" in line)
    assert int(first.split()[-1].partition("/")[0]) > 0
    assert "made 1 concept in" in result.stderr
    assert [each.name for each in scratch.iterdir()] == ["latents"]


def test_preflight_says_what_a_printer_would_send_back_once(story: Path) -> None:
    result = invoke("preflight", story, "--json")
    assert result.exit_code == 0, result.output
    told = document(result)
    assert (told["errors"], told["warnings"]) == (0, 2)
    coarse, staple = told["findings"]
    assert (coarse["code"], staple["code"]) == ("SF501", "SF521")
    assert coarse["message"].startswith("2 pictures")
    assert invoke("preflight", story, "--strict").exit_code == 1
    assert document(invoke("book", story, "--json"))["preflight"]["warnings"] == 2


def test_preflight_says_that_pictures_were_enlarged_and_from_what(story: Path) -> None:
    edit(story, "title: A", "title: A\nbook: {upscale: lanczos}")
    assert made(invoke("book", story, "--json")) == NOTHING | {"books": 2}
    result = invoke("preflight", story, "--json")
    assert result.exit_code == 0, result.output
    found = {each["code"]: each["message"] for each in document(result)["findings"]}
    assert set(found) == {"SF520", "SF521"}
    assert "enlarged from 4 pixels" in found["SF520"]
    kinds = [each["kind"] for each in products(invoke("cache", "ls", story, "--json"))]
    assert kinds.count("upscaled") == 2
    removed = document(invoke("cache", "gc", story, "--json"))["products"]
    assert "upscaled" not in {each["kind"] for each in removed}


def test_a_missing_model_that_enlarges_is_named(story: Path) -> None:
    edit(story, "title: A", "title: A\nbook: {upscale: esrgan.pth}")
    result = invoke("book", story)
    assert result.exit_code == 1, result.output
    assert "SF303 no way of enlarging named `esrgan.pth`" in result.stderr


def test_books_in_folders_keep_no_page_of_an_earlier_book(story: Path) -> None:
    build = story.parent / "build" / f"{story.parent.name}.pages"
    assert invoke("book", story, "--to", "png", "--ppi", "36").exit_code == 0
    count = len(list(build.glob("page-*.png")))
    (build / "mine.txt").write_text("kept")
    edit(
        story,
        "  - text: Once upon a time.\n",
        "  - kind: blank\n  - kind: blank\n  - text: Once.\n",
    )
    assert invoke("book", story, "--to", "png", "--ppi", "36").exit_code == 0
    assert len(list(build.glob("page-*.png"))) == count + 2
    edit(story, "  - kind: blank\n  - kind: blank\n", "")
    assert invoke("book", story, "--to", "png", "--ppi", "36").exit_code == 0
    assert len(list(build.glob("page-*.png"))) == count
    assert (build / "mine.txt").read_text() == "kept"


def test_html_with_assets_lies_in_a_folder(story: Path) -> None:
    result = invoke("book", story, "--to", "html", "--assets")
    (web,) = [Path(line) for line in result.stdout.split()]
    assert web.suffix == ".web"
    assert (web / "index.html").is_file()
    assert len(list((web / "assets").iterdir())) >= 2


def test_help_begins_with_what_one_begins_with() -> None:
    listed = [line.split()[1] for line in invoke("--help").output.splitlines() if "│ " in line]
    verbs = [word for word in listed if word in {"init", "render", "pin", "cache"}]
    assert verbs == ["init", "render", "pin", "cache"]
