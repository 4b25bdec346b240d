"""Where subjects came to be is recorded while they are drawn, and books are set by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bookmaking import written
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support import panel
from tinybases import JOINT, base_of, tiny_pipeline
from tinymodel import open_tiny
from torch import Tensor, nn
from typer.testing import CliRunner

from benchmarks.bases import LiveTensors
from storyforge.book import balloon
from storyforge.book.page import bind
from storyforge.cli.program import app
from storyforge.engine.books import art_of
from storyforge.geometry.box import Box
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.concept import plain
from storyforge.model.dit.joint import JointRecorder, JointText
from storyforge.provenance.recipe import DrawnPlace, read_metadata, subjects_in
from storyforge.sample.recipe import save_png
from storyforge.sample.sampler import SamplingContext, picture, pictures
from storyforge.sample.watching import Watch, watch_of
from storyforge.sample.whereabouts import Whereabouts, whereabouts
from storyforge.tasks import HeadTask, Method, PanelTask, RefineTask, RegionTask

LEFT = Box(x0=0, y0=0, x1=0.5, y1=1)
RIGHT = Box(x0=0.5, y0=0, x1=1, y1=1)


def planted(*cells: tuple[slice, slice, float]) -> Tensor:
    """(1, 16, 16): what some cells read, over a little that all do."""
    read = 0.02 * torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(1))
    for rows, columns, much in cells:
        read[0, rows, columns] += much
    return read


BODY = (slice(4, 14), slice(7, 12), 0.5)
HEAD = (slice(4, 8), slice(7, 12), 0.5)


def test_a_subject_is_where_its_words_are_read_and_not_where_it_was_asked_for() -> None:
    (found,) = whereabouts(planted(BODY, HEAD), [LEFT])
    assert found is not None
    box = found.body
    near = [(box.x0, 7 / 16), (box.y0, 4 / 16), (box.x1, 12 / 16), (box.y1, 14 / 16)]
    assert all(abs(side - drawn) <= 1 / 16 for side, drawn in near)


def test_its_head_is_where_they_are_read_most() -> None:
    (found,) = whereabouts(planted(BODY, HEAD), [Box(x0=0.3, y0=0.2, x1=0.7, y1=0.9)])
    assert found is not None
    assert found.head.y0 == pytest.approx(4 / 16, abs=1 / 16)
    assert found.head.y1 <= 10 / 16 < 13 / 16 <= found.body.y1
    assert found.body.x0 <= found.head.x0 < found.head.x1 <= found.body.x1


def test_of_two_that_are_alike_each_region_has_the_nearer() -> None:
    both = planted((slice(4, 12), slice(1, 5), 0.5), (slice(4, 12), slice(11, 15), 0.5))
    left, right = whereabouts(both.expand(2, -1, -1), [LEFT, RIGHT])
    assert left is not None
    assert right is not None
    assert left.body.x1 <= 0.5 <= right.body.x0


def test_nothing_is_found_where_words_are_read_here_and_there() -> None:
    scattered = planted(*[(slice(y, y + 1), slice(x, x + 1), 0.5) for y, x in _SPOTS])
    assert whereabouts(scattered, [Box(x0=0, y0=0, x1=1, y1=1)]) == [None]


_SPOTS = [(1, 1), (1, 8), (1, 14), (8, 1), (8, 8), (8, 14), (14, 1), (14, 8), (14, 14)]


@pytest.fixture(scope="module")
def tiny() -> BaseModel:
    """A base of random weights."""
    return open_tiny()


def with_region(base: BaseModel, box: Box = LEFT, **more: object) -> PanelTask:
    region = RegionTask("fox", box, "a red fox", "", 1.0, 0, None)
    return replace(panel(base, Method()), regions=(region,), **more)


def test_a_picture_is_the_same_whether_anybody_looks_on(
    tiny: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = with_region(tiny)
    watched = picture(tiny, plain(tiny), task)
    monkeypatch.setattr("storyforge.sample.sampler.watch_of", lambda *_: None)
    assert (picture(tiny, plain(tiny), task) == watched).all()


@contextmanager
def made_to_look(base: BaseModel, word: int, area: Tensor) -> Iterator[None]:
    """Let the cells of an area read one word of every text, and all others none of it."""
    mark, cells = 6 * (2 * area.flatten() - 1), area.numel()
    offers, asks, text = _sites(base)

    def offer(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """One word alone has anything to say."""
        made = torch.zeros_like(output)
        made[:, text(cells) + word] = 1
        return made

    def ask(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The cells of the area want to hear it."""
        first = output.shape[1] - cells if base.door is not None and text(cells) == 0 else 0
        if output.shape[1] < cells or (base.door is None and output.shape[1] != cells):
            return output
        made = torch.zeros_like(output)
        shape = (cells, *[1] * (output.ndim - 2))
        made[:, first : first + cells] = mark.reshape(shape)
        return made

    with ExitStack() as stack:
        for each in offers:
            stack.callback(each.register_forward_hook(offer).remove)
        for each in asks:
            stack.callback(each.register_forward_hook(ask).remove)
        yield


def _sites(
    base: BaseModel,
) -> tuple[list[nn.Module], list[nn.Module], Callable[[int], int]]:
    """What makes keys, what makes queries, and where the text begins beside so many cells."""
    if base.door is None:
        sites = [base.unet.get_submodule(name) for name in base.family.cross_sites]
        return [each.to_k for each in sites], [each.to_q for each in sites], lambda cells: 0
    recorder = base.door.recorder(base.unet)
    whole = recorder.whole or 0
    return (
        [each.get_submodule("norm_k") for each in recorder.layers],
        [each.get_submodule("norm_q") for each in recorder.layers],
        lambda cells: cells + -cells % whole if whole else 0,
    )


@pytest.fixture(scope="module", params=["u-net", *JOINT])
def any_base(request: pytest.FixtureRequest, tiny: BaseModel) -> BaseModel:
    """A base of each kind, of random weights."""
    return tiny if request.param == "u-net" else base_of(tiny_pipeline(request.param))


@pytest.mark.parametrize("place", [(1, 1), (1, 5), (5, 3)])
def test_a_subject_is_said_to_be_where_attention_was(
    any_base: BaseModel, place: tuple[int, int]
) -> None:
    row, column = place
    side = 8 * any_base.vae_scale
    task = replace(
        with_region(any_base, Box(x0=0, y0=0, x1=1, y1=1)), size=(side, side), scheduler=None
    )
    area = torch.zeros(8, 8)
    area[row : row + 3, column : column + 3] = 1
    watch = watch_of(any_base, plain(any_base), [task], (8, 8))
    assert watch is not None
    with made_to_look(any_base, int(watch.words[0][0]), area):
        (drawn,) = pictures(SamplingContext(any_base, plain(any_base)), [task])
    x, y = drawn.subjects["fox"].body.centre()
    assert abs(x - (column + 1.5) / 8) <= 1 / 8
    assert abs(y - (row + 1.5) / 8) <= 1 / 8


def test_cells_of_a_transformer_are_taken_together_to_about_sixteen_a_side() -> None:
    base = base_of(tiny_pipeline("flux2"))
    task = replace(with_region(base, Box(x0=0, y0=0, x1=1, y1=1)), size=None, scheduler=None)
    task = replace(task, size=(32 * base.vae_scale, 24 * base.vae_scale))
    area = torch.zeros(24, 32)
    area[14:20, 20:28] = 1
    watch = watch_of(base, plain(base), [task], (24, 32))
    assert watch is not None
    assert (watch.level, watch.size) == ((24, 32), (12, 16))
    with made_to_look(base, int(watch.words[0][0]), area):
        (drawn,) = pictures(SamplingContext(base, plain(base)), [task])
    x, y = drawn.subjects["fox"].body.centre()
    assert abs(x - 24 / 32) <= 1 / 16
    assert abs(y - 17 / 24) <= 1 / 12


def test_nobody_is_looked_for_where_nothing_is_said(any_base: BaseModel) -> None:
    side = 8 * any_base.vae_scale
    task = replace(with_region(any_base), size=(side, side), scheduler=None)
    task = replace(task, regions=(replace(task.regions[0], prompt=""),))
    (drawn,) = pictures(SamplingContext(any_base, plain(any_base)), [task])
    assert drawn.subjects == {}


class Doubled(nn.Module):
    """Makes a tensor of its own of what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        """All of it, twice."""
        return 2 * x


class Asking(nn.Module):
    """Asks and offers as a layer does that attends to text and picture at once."""

    def __init__(self) -> None:
        """As in diffusers' classes."""
        super().__init__()
        self.norm_q, self.norm_k = Doubled(), Doubled()

    def forward(self, x: Tensor) -> None:
        """What is asked and offered goes as the next layer begins."""
        self.norm_q(x), self.norm_k(x)


def most_alive(layers: int) -> int:
    """Bytes while layers of FLUX.2-klein's shape are seen, at 1024 pixels with three regions."""
    texts, cells, heads, width = 4, 64 * 64, 24, 128
    x = torch.empty(1, texts * 512 + cells, heads, width, dtype=torch.bfloat16, device="meta")
    said = [JointText(torch.empty(1, 512, 7680, device="meta")) for _ in range(texts)]
    recorder = JointRecorder([Asking() for _ in range(layers)])
    with LiveTensors() as live, recorder.watching(said, cells, lambda read: None, filled=True):
        for layer in recorder.layers:
            layer(x)
    return live.peak


def test_of_what_a_transformer_asks_and_offers_one_layer_is_there_at_once() -> None:
    asks = (4 * 512 + 64 * 64) * 24 * 128 * 2
    scores = 64 * 64 * 4 * 512 * 4
    assert most_alive(20) == most_alive(1)
    assert 2 * asks < most_alive(1) < 2 * asks + 5 * scores


def test_pictures_that_come_one_after_the_other_are_seen_as_those_that_come_at_once() -> None:
    layer = Asking()
    told: list[Mapping[int, Tensor]] = []
    texts = [JointText(torch.rand(2, 3, 5))]
    recorder = JointRecorder([layer], whole=4)
    x = torch.rand(2, 11, 2, 6)
    with recorder.watching(texts, 6, told.append, filled=False):
        layer(x)
    with recorder.watching(texts, 6, told.append, filled=False):
        # The first may have fewer words than are looked for.
        layer(x[:1, :9])
        layer(x[1:])
    ((one,), (other,)) = (each.values() for each in told)
    assert torch.equal(one, other)
    assert one.shape == (6, 3)
    torch.testing.assert_close(one.sum(1), torch.ones(6))


def test_panels_drawn_at_once_are_told_apart(tiny: BaseModel) -> None:
    tasks = [with_region(tiny, box, panel=name) for name, box in (("a", LEFT), ("b", RIGHT))]
    context = SamplingContext(tiny, plain(tiny))
    watch = watch_of(tiny, plain(tiny), tasks, (8, 8))
    assert watch is not None
    assert len(watch.words) == 2
    together = [each.subjects for each in pictures(context, tasks)]
    assert together == [pictures(context, [task])[0].subjects for task in tasks]


def test_nobody_looks_for_what_no_region_asks_for(tiny: BaseModel) -> None:
    task = replace(panel(tiny, Method()), regions=())
    assert watch_of(tiny, plain(tiny), [task], (8, 8)) is None
    assert pictures(SamplingContext(tiny, plain(tiny)), [task])[0].subjects == {}


def test_only_the_picture_itself_is_looked_at_not_what_it_begins_with_nor_a_head_alone(
    tiny: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[float] = []
    look = Watch.__call__

    def counted(watch: Watch, done: float, asked: AttentionContext) -> AbstractContextManager[None]:
        """As it is, and how much of the drawing was done."""
        looked.append(done)
        return look(watch, done, asked)

    monkeypatch.setattr(Watch, "__call__", counted)
    head = HeadTask("fox", Box(x0=0, y0=0, x1=0.25, y1=0.25), "close-up of a fox")
    task = with_region(tiny, refine=RefineTask(None, 2.0, 0.67), heads=(head,))
    pictures(SamplingContext(tiny, plain(tiny)), [task])
    assert looked == [0.5, 1.0]


BODY_BOX, HEAD_BOX = Box(x0=0.5, y0=0.25, x1=0.75, y1=1), Box(x0=0.5, y0=0.25, x1=0.75, y1=0.5)


@pytest.fixture
def saved(tiny: BaseModel, tmp_path: Path) -> Path:
    """A grey picture that says where its subject is."""
    pixels = np.full((256, 256, 3), 128, np.uint8)
    subjects = {"a": Whereabouts(BODY_BOX, HEAD_BOX)}
    save_png(pixels, with_region(tiny), tiny, tmp_path / "one.png", subjects)
    return tmp_path / "one.png"


def test_a_picture_says_where_its_subjects_are(saved: Path) -> None:
    assert subjects_in(saved) == {"a": DrawnPlace(body=BODY_BOX, head=HEAD_BOX)}
    assert read_metadata(saved).recipe["panel"] == "one"


def test_it_says_whose_head_does_not_show_and_what_is_known_exactly(
    tiny: BaseModel, tmp_path: Path
) -> None:
    hidden = {"a": Whereabouts(BODY_BOX, None, exact=True)}
    pixels = np.zeros((8, 8, 3), np.uint8)
    save_png(pixels, with_region(tiny), tiny, tmp_path / "a.png", hidden)
    assert subjects_in(tmp_path / "a.png") == {"a": DrawnPlace(body=BODY_BOX, exact=True)}
    (drawn,) = art_of("a", tmp_path / "a.png").subjects
    assert drawn.head is None
    assert drawn.exact


def test_show_says_where_they_are(tiny: BaseModel, tmp_path: Path) -> None:
    pixels, subjects = np.zeros((8, 8, 3), np.uint8), {"fox": Whereabouts(BODY_BOX, HEAD_BOX)}
    save_png(pixels, with_region(tiny), tiny, tmp_path / "a.png", subjects)
    told = CliRunner().invoke(app, ["show", str(tmp_path / "a.png")])
    assert "0.5, 0.25, 0.75, 0.5" in told.stdout.partition("drawn head")[2].splitlines()[0]


@pytest.mark.parametrize(
    "told", ["{}", "[]", '{"a": {"body": [0, 0, 2, 1]}}', '{"a": [0, 0, 1, 1]}', "1" * 999]
)
def test_a_picture_that_says_nonsense_says_nothing(tmp_path: Path, told: str) -> None:
    notes = PngInfo()
    notes.add_itxt("storyforge", f'{{"schema_version": 1, "subjects": {told}}}')
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=notes)
    assert subjects_in(tmp_path / "a.png") == {}


STORY = """\
storyforge: 1
title: Hello
characters: {pip: concepts/pip}
book: {trim: square-8.5}
pages:
  - kind: full-bleed
    panels:
      - id: one
        alt: Pip.
        regions: {a: {concept: pip, box: [0.0, 0.25, 0.25, 1.0]}}
        say: [{who: pip, text: Good night!}]
"""


def test_a_face_is_where_the_picture_says_and_its_tail_leads_there(
    saved: Path, tmp_path: Path
) -> None:
    book = bind(written(tmp_path / "story", STORY), {"one": art_of("one", saved)})
    ((item,),) = [leaf.pictures for leaf in book.leaves if leaf.kind == "story"]
    (head,), (said,) = item.heads, item.balloons
    middle = head.face.centre()
    frame, crop = item.frame, item.crop
    assert crop.x + (middle.x - frame.x) / frame.width * crop.width == pytest.approx(0.625)
    assert crop.y + (middle.y - frame.y) / frame.height * crop.height == pytest.approx(0.375)
    body = balloon.padded(said.text, said.size, said.kind)
    assert head.face.covered(body) < 0.07
    assert said.tip is not None
    assert abs(said.tip.x - middle.x) < head.face.width


def test_a_region_that_the_picture_does_not_know_is_looked_for_in_its_colours(
    saved: Path, tmp_path: Path
) -> None:
    story = written(tmp_path / "story", STORY.replace("{a: {", "{b: {"))
    book = bind(story, {"one": art_of("one", saved)})
    ((item,),) = [leaf.pictures for leaf in book.leaves if leaf.kind == "story"]
    assert item.heads[0].body.right < item.frame.x + 0.3 * item.frame.width


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_nothing_stands_out_where_all_is_alike_or_no_number(value: float) -> None:
    assert whereabouts(torch.full((1, 16, 16), value), [LEFT]) == [None]
