"""What a concept is seen to need: weighted to where it is, and carried in its own file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support import train_task
from torch import Tensor

from storyforge.engine import stages
from storyforge.errors import EnvironmentProblem
from storyforge.executor import silent
from storyforge.fuse import carried, fusion, statistics
from storyforge.fuse.area import REST, subject_area
from storyforge.fuse.packing import Compact
from storyforge.fuse.statistics import Statistics, Viewing
from storyforge.model.base import BaseModel
from storyforge.model.card import Card
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens, PromptEmbeds, encode, token_ids
from storyforge.settings import FuseSettings
from storyforge.store import Store
from storyforge.tasks import FuseTask

LINES = ("<it>", "<it> on the left, in a forest")


LITTLE = Viewing(1, {"object": LINES, "character": LINES}, ("a fox",))
"""What there is to watch."""


@pytest.fixture(scope="module")
def concept(base: BaseModel, deltas: dict[str, Delta], pip: ConceptTokens) -> Concept:
    return Concept("pip", "object", "fox", pip, deltas, "pocket", base.hash)


def in_text(base: BaseModel, concept: Concept) -> tuple[PromptEmbeds, list[tuple[int, int]]]:
    """What the U-Net reads of two prompts, negative ones first, and where the words stand."""
    prompts = [line.replace("<it>", "<pip>") for line in LINES]
    text = encode(base, ["", "", *prompts], {"pip": concept.tokens})
    first = [token_ids(base, prompt, ["pip"]) for prompt in prompts]
    starts = [ids.index(max(ids) - 1) for ids in first]
    return text, [(start, start + 1) for start in starts]


def test_every_level_has_an_area_and_somewhere_it_counts_in_full(
    base: BaseModel, concept: Concept
) -> None:
    with torch.no_grad():
        area = subject_area(base, *in_text(base, concept), steps=1)
    assert {int(cells**0.5) ** 2 for cells in area} == set(area)
    for counts in area.values():
        assert len(counts) == 2
        torch.testing.assert_close(counts.amax(1), torch.ones(2))
        assert REST - 1e-6 <= counts.min() < 1 - 1e-3


def test_the_area_lies_where_the_words_are_read(base: BaseModel, concept: Concept) -> None:
    text, where = in_text(base, concept)
    with torch.no_grad():
        words = subject_area(base, text, where, steps=1)
        others = subject_area(base, text, [(0, 0), (0, 0)], steps=1)
    assert any(not torch.allclose(words[cells], others[cells], atol=1e-2) for cells in words)


def test_only_spatial_layers_look_at_the_subject_above_all(
    base: BaseModel, concept: Concept
) -> None:
    plainly = statistics.of_concept(base, concept, viewing=LITTLE)
    closely = statistics.of_concept(base, concept, subject=True, viewing=LITTLE)
    for source in plainly.readers:
        same = torch.equal(plainly.gram(source), closely.gram(source))
        assert same == (base.family.stage(source) != "spatial"), source
    assert not base.unet._forward_hooks


def test_an_area_that_is_everywhere_weighs_nothing(
    base: BaseModel, concept: Concept, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly = statistics.of_concept(base, concept, viewing=LITTLE)
    found = subject_area

    def everywhere(*args: object) -> dict[int, Tensor]:
        return {cells: torch.ones_like(counts) for cells, counts in found(*args).items()}  # type: ignore[arg-type]

    monkeypatch.setattr(statistics, "subject_area", everywhere)
    closely = statistics.of_concept(base, concept, subject=True, viewing=LITTLE)
    assert all(torch.equal(plainly.gram(s), closely.gram(s)) for s in plainly.readers)


@pytest.mark.parametrize("subject", [False, True])
@pytest.mark.parametrize(
    "habit", [{"guidance_scale": 1.0}, {"guidance_start": 0.5}, {"guidance_stop": 0.5}]
)
def test_a_base_that_draws_without_guidance_at_times_is_watched_all_the_same(
    base: BaseModel, concept: Concept, habit: dict[str, float], subject: bool
) -> None:
    free = replace(base, defaults=replace(base.defaults, **habit))
    viewing = replace(LITTLE, steps=2)
    found = statistics.of_concept(free, concept, subject=subject, viewing=viewing)
    usual = statistics.of_concept(base, concept, subject=subject, viewing=viewing)
    assert set(found.packed) == set(usual.packed)
    kv = next(name for name in found.packed if base.family.stage(name) == "kv")
    # Negative prompts count less where they are asked less: the concept's words stand out more.
    words = found.words[kv].double().mean(0)
    assert words @ found.gram(kv) @ words > words @ usual.gram(kv) @ words


@pytest.fixture(scope="module")
def seen(base: BaseModel, concept: Concept) -> Statistics:
    return statistics.of_concept(base, concept, Compact, viewing=LITTLE)


@pytest.fixture
def plain(concept: Concept, tmp_path: Path) -> Path:
    path = tmp_path / "pip.safetensors"
    concept.save(path)
    return path


def test_a_concept_carries_its_statistics_and_is_otherwise_as_before(
    plain: Path, seen: Statistics
) -> None:
    before, size = Concept.load(plain), plain.stat().st_size
    assert carried.carried(plain) is None
    carried.carry(plain, seen)
    after, brought = Concept.load(plain), carried.carried(plain)
    assert brought is not None
    assert brought.readers == seen.readers
    for source, packed in seen.packed.items():
        back = brought.packed[source].tensors()
        assert all(torch.equal(back[part], tensor) for part, tensor in packed.tensors().items())
    assert torch.equal(after.tokens.words, before.tokens.words)
    assert set(after.deltas) == set(before.deltas)
    assert all(torch.equal(after.deltas[n].up, d.up) for n, d in before.deltas.items())
    card = Card.read(plain)
    assert card.changed["unet"] == sum(n.startswith("unet.") for n in before.deltas)
    assert 0 < card.statistics < plain.stat().st_size - size + 1


def test_carrying_twice_is_carrying_once(plain: Path, seen: Statistics) -> None:
    carried.carry(plain, seen)
    once = load_file(plain)
    carried.carry(plain, seen)
    twice = load_file(plain)
    assert once.keys() == twice.keys()
    assert all(torch.equal(twice[key], tensor) for key, tensor in once.items())
    assert [path.name for path in plain.parent.iterdir()] == [plain.name]


def test_a_concept_without_statistics_says_so(plain: Path) -> None:
    assert Card.read(plain).statistics == 0
    with safe_open(plain, "pt") as file:
        assert not any(key.startswith("statistics") for key in (*file.keys(), *file.metadata()))


@pytest.mark.parametrize("asked", ["compact", None])
def test_what_is_learnt_carries_statistics_if_the_author_wants_it(
    base: BaseModel, tmp_path: Path, asked: str | None
) -> None:
    settings = {"statistics": asked} if asked else {}
    learnt = train_task(base, tmp_path, steps=1, **settings)
    stages.learn_concept(tmp_path / "store", None, {}, learnt, silent, LITTLE)
    path = Store(tmp_path / "store").path("concepts", "key")
    brought = carried.carried(path)
    assert (brought is not None) == (asked is not None) == (Card.read(path).statistics > 0)
    assert brought is None or set(map(type, brought.packed.values())) == {Compact}


def task(base: BaseModel, **settings: object) -> FuseTask:
    asked = FuseSettings.model_validate({"preservation": 0, **settings})
    concepts = (("pip", "k1"), ("twin", "k2"))
    watched = (("pip", "s1"), ("twin", "s2"))
    return FuseTask("key", "pocket", base.hash, concepts, asked, watched, "s0")


def test_concepts_that_carry_their_statistics_are_fused_without_a_model(
    base: BaseModel,
    plain: Path,
    seen: Statistics,
    tmp_path: Path,
) -> None:
    carried.carry(plain, seen)
    store = Store(tmp_path / "store")
    files = {"pip": plain, "twin": plain}
    fusion.fuse_concepts(pytest.fail, task(base), files, store, tmp_path / "out", silent, LITTLE)
    fused = FusedModel.load(tmp_path / "out")
    assert list(fused.tokens) == ["pip", "twin"]
    assert not store.ls()


def test_what_was_watched_for_another_time_than_the_story_asks_for_is_watched_again(
    base: BaseModel, plain: Path, seen: Statistics, tmp_path: Path
) -> None:
    carried.carry(plain, seen, steps=2)
    assert carried.carried(plain, 2) is not None
    assert carried.carried(plain, 1) is None
    store = Store(tmp_path / "store")
    files, asked = {"pip": plain, "twin": plain}, task(base, steps=1)
    fusion.fuse_concepts(lambda: base, asked, files, store, tmp_path / "out", silent, LITTLE)
    assert {product.key for product in store.ls()} == {"s1", "s2"}


def test_a_concept_that_lacks_statistics_is_watched_beside_one_that_has_them(
    base: BaseModel, plain: Path, seen: Statistics, tmp_path: Path
) -> None:
    bare = tmp_path / "twin.safetensors"
    bare.write_bytes(plain.read_bytes())
    carried.carry(plain, seen)
    store = Store(tmp_path / "store")
    fusion.fuse_concepts(
        lambda: base,
        task(base),
        {"pip": plain, "twin": bare},
        store,
        tmp_path / "out",
        silent,
        LITTLE,
    )
    assert [product.key for product in store.ls()] == ["s2"]


def test_looking_at_the_subject_watches_again_what_was_seen_in_whole_pictures(
    base: BaseModel, plain: Path, seen: Statistics, tmp_path: Path
) -> None:
    carried.carry(plain, seen)
    store, heard = Store(tmp_path / "store"), []
    asked = task(base, area="subject")
    fusion.fuse_concepts(
        lambda: base,
        asked,
        {"pip": plain, "twin": plain},
        store,
        tmp_path / "out",
        lambda what, done, total: heard.append((done, total)),
        LITTLE,
    )
    assert {product.key for product in store.ls()} == {"s1", "s2"}
    assert [each for each in heard if each[1] == 4] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_damaged_statistics_in_a_concept_are_refused_by_name(
    base: BaseModel, plain: Path, seen: Statistics, tmp_path: Path
) -> None:
    broken = Statistics("another", seen.readers, seen.packed, seen.words)
    carried.carry(plain, broken)
    store = Store(tmp_path / "store")
    with pytest.raises(EnvironmentProblem, match=r"pip\.safetensors.*another base"):
        fusion.fuse_concepts(
            lambda: base,
            task(base),
            {"pip": plain, "twin": plain},
            store,
            tmp_path / "out",
            silent,
            LITTLE,
        )
    gone = dict(list(seen.packed.items())[1:])
    carried.carry(plain, Statistics(base.hash, seen.readers, gone, seen.words))
    with pytest.raises(EnvironmentProblem, match=r"pip\.safetensors"):
        carried.carried(plain)


@pytest.mark.parametrize("damage", [b"", b"no safetensors", None], ids=["empty", "other", "cut"])
def test_a_corrupt_concept_is_refused_by_name_before_anything_is_written(
    base: BaseModel, plain: Path, tmp_path: Path, damage: bytes | None
) -> None:
    whole = plain.read_bytes()
    plain.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    store = Store(tmp_path / "store")
    with pytest.raises(EnvironmentProblem, match=r"pip\.safetensors"):
        fusion.fuse_concepts(
            lambda: base,
            task(base),
            {"pip": plain, "twin": plain},
            store,
            tmp_path / "out",
            silent,
            LITTLE,
        )
    assert not (tmp_path / "out").exists()
