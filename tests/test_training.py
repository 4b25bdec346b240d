"""Training of a concept: loss, batches, checkpoints, and the concept that comes of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from shutil import copy

import pytest
import torch
from filelock import FileLock
from support import CONFIG, Killed, killer, toy, train_task, trainable
from torch import Tensor

from storyforge.errors import StoryForgeError
from storyforge.executor import silent
from storyforge.model.attention import AttentionContext, attending, predict
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept
from storyforge.model.lora import attached
from storyforge.model.tokens import encode
from storyforge.settings import TrainSettings
from storyforge.train import edlora, prior
from storyforge.train.config import config_of, unmasked
from storyforge.train.dataset import Example
from storyforge.train.edlora import learn
from storyforge.train.loss import masked_loss
from storyforge.train.prior import PriorSet, prior_set
from storyforge.train.training_set import draw_batches, training_set

FROZEN = replace(CONFIG, embedding_lr=0.0, text_lr=0.0, unet_lr=0.0)


def test_with_a_full_mask_the_loss_is_the_plain_mean() -> None:
    made, wanted = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 5, 6)
    plain = torch.nn.functional.mse_loss(made, wanted)
    torch.testing.assert_close(masked_loss(made, wanted, torch.ones(3, 1, 5, 6)), plain)


def test_the_loss_does_not_see_outside_the_mask() -> None:
    made, wanted = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
    mask = torch.zeros(2, 1, 6, 6)
    mask[:, :, :2] = 1
    spoilt = made + 100 * (1 - mask)
    inside = torch.nn.functional.mse_loss(made[:, :, :2], wanted[:, :, :2])
    torch.testing.assert_close(masked_loss(spoilt, wanted, mask), inside)


def test_a_small_mask_weighs_as_much_as_a_large_one() -> None:
    wanted, mask = torch.zeros(2, 4, 6, 6), torch.ones(2, 1, 6, 6)
    mask[0, :, 1:] = 0
    made = torch.tensor([1.0, 3.0])[:, None, None, None].expand_as(wanted)
    torch.testing.assert_close(masked_loss(made, wanted, mask), torch.tensor((1.0 + 9.0) / 2))


def test_channels_of_which_the_denoiser_says_nothing_are_not_judged(base: BaseModel) -> None:
    """The embedded model leaves components of patches out; what cells tell is all there is."""
    silent = torch.ones(base.channels, dtype=torch.bool)
    silent[base.denoised] = False
    assert not base.unet.conv_out.weight[silent].any()
    assert base.unet.conv_out.weight[base.denoised].abs().amax((1, 2, 3)).all()
    assert silent.any()


def test_the_untrained_learner_is_the_base_but_for_the_new_words(base: BaseModel) -> None:
    def answer() -> Tensor:
        text = encode(base, ["a fox in the snow"], {})
        with torch.no_grad(), attending(base, AttentionContext(text)):
            return predict(base, toy(base, "").latents[0][None], torch.tensor(500), text)

    before = answer()
    with attached(base, trainable(base).deltas()):
        assert torch.equal(answer(), before)


def test_a_learner_is_made_by_its_seed(base: BaseModel) -> None:
    def parts(seed: int) -> Tensor:
        made = trainable(base, replace(CONFIG, seed=seed))
        return torch.cat([p.detach().flatten() for p in (made.words, *made.downs)])

    one, same, other = (parts(seed) for seed in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_every_parameter_has_a_learning_rate_of_its_stage(base: BaseModel) -> None:
    made = trainable(base)
    words, text, unet = (len(group["params"]) for group in made.rates(CONFIG))
    in_text = sum(name.startswith("text_encoder.") for name in base.linears)
    assert (words, text, unet) == (1, 2 * in_text, 2 * (len(base.linears) - in_text))
    assert words + text + unet == len(list(made.parameters()))


def test_training_lowers_the_loss(base: BaseModel, tmp_path: Path) -> None:
    """A step's random numbers come from seed and step alone, so two runs compare step by step."""
    seen, losses = toy(base, "a <pip>"), []
    for config in (replace(FROZEN, steps=8), replace(CONFIG, steps=8)):
        losses.append(learn(base, trainable(base, config), seen, config, tmp_path, silent))
    frozen, trained = losses
    assert trained[0] == frozen[0]
    assert sum(trained[-3:]) < 0.97 * sum(frozen[-3:])


def test_the_base_is_bit_equal_after_training(base: BaseModel, tmp_path: Path) -> None:
    parts = (base.unet, base.vae, base.text_encoder)
    before = [{name: each.clone() for name, each in part.state_dict().items()} for part in parts]
    config = replace(CONFIG, steps=1)
    learn(base, trainable(base), toy(base, "a <pip>"), config, tmp_path, silent)
    for part, kept in zip(parts, before, strict=True):
        after = part.state_dict()
        assert after.keys() == kept.keys(), "nothing was added, such as rows for new words"
        assert all(torch.equal(kept[name], after[name]) for name in kept)
        assert not any(weight.requires_grad for weight in part.parameters())


def test_the_largest_seed_trains(base: BaseModel, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=1, seed=2**63 - 1)
    losses = learn(base, trainable(base, config), toy(base, "a fox"), config, tmp_path, silent)
    assert len(losses) == 1


def test_a_loss_that_is_no_number_is_told_to_the_author(base: BaseModel, tmp_path: Path) -> None:
    seen = toy(base, "a fox")
    seen.latents[0][:] = seen.latents[1][:] = torch.nan
    with pytest.raises(StoryForgeError, match="`pip` broke down at step 0") as caught:
        learn(base, trainable(base), seen, CONFIG, tmp_path, silent)
    assert caught.value.hint


SAVED = 2
"""Steps before the checkpoint of the run that is killed."""

LONG = replace(CONFIG, steps=SAVED + 2)
CAPTIONS = ("a <pip>", "a <pip> by night")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads add up in another order each time: equal to the bit holds on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def killed(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scratch folder of a run that was killed one step after its checkpoint."""
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.raises(Killed):
        learn(
            base,
            trainable(base),
            toy(base, *CAPTIONS),
            LONG,
            folder,
            killer(SAVED + 1),
            save_every=SAVED,
        )
    return folder


def test_a_resumed_run_is_bit_equal_to_one_that_was_not_killed(
    base: BaseModel, killed: Path, tmp_path: Path
) -> None:
    resumed, whole = trainable(base), trainable(base)
    steps: list[int] = []
    losses = learn(
        base, resumed, toy(base, *CAPTIONS), LONG, killed, lambda _, done, __: steps.append(done)
    )
    assert steps[0] == SAVED
    assert losses == learn(base, whole, toy(base, *CAPTIONS), LONG, tmp_path, silent)
    for one, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_of_another_recipe_is_not_gone_on_from(base: BaseModel, killed: Path) -> None:
    other = replace(LONG, unet_lr=0.5)
    with pytest.raises(Killed):
        learn(base, trainable(base), toy(base, *CAPTIONS), other, killed, killer(0))


@pytest.mark.parametrize(
    ("batch", "share", "rows"), [(5, 0.4, 2), (4, 0.0, 0), (4, 0.25, 1), (4, 0.99, 3), (1, 0.0, 0)]
)
def test_prior_pictures_enter_the_batch_in_the_share_asked_for(
    base: BaseModel, batch: int, share: float, rows: int
) -> None:
    latents = torch.full((3, *toy(base, "").latents[0].shape), 7.0)
    seen = toy(base, "a <pip>", prior=PriorSet(latents, ("a", "b", "c")))
    seen.masks[:] = [mask / 2 for mask in seen.masks]
    config = replace(CONFIG, batch_size=batch, prior_share=share)
    assert config.prior_rows == rows
    (drawn,) = draw_batches(seen, config, torch.Generator().manual_seed(0))
    clean, weights, prompts = drawn.clean, drawn.weights, drawn.prompts
    prior = (clean == 7).all(dim=(1, 2, 3)).tolist()
    assert prior == [False] * (batch - rows) + [True] * rows
    assert [prompt == "a <pip>" for prompt in prompts] == [not p for p in prior]
    assert weights[prior].eq(1).all()
    assert weights[: batch - rows].eq(0.5).all()


@pytest.mark.parametrize(("batch", "share"), [(2, 0.2), (1, 0.4)])
def test_a_share_of_no_whole_picture_is_met_over_many_steps(
    base: BaseModel, batch: int, share: float
) -> None:
    prior = PriorSet(torch.full((1, *toy(base, "").latents[0].shape), 7.0), ("a fox",))
    seen = toy(base, "a <pip>", prior=prior)
    config = replace(CONFIG, batch_size=batch, prior_share=share)
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_batches(seen, config, generator) for _ in "x" * 500]
    counts = [(one.clean == 7).all((1, 2, 3)).sum().item() for (one,) in drawn]
    assert {len(one.prompts) for (one,) in drawn} == {batch}
    assert set(counts) == {0, 1}
    assert 150 < sum(counts) < 250


@pytest.mark.parametrize("method", ["ed-lora", "textual-inversion"])
def test_a_batch_of_one_ordinary_picture_can_be_learnt_from(
    base: BaseModel, method: str, tmp_path: Path
) -> None:
    prior = PriorSet(torch.stack(toy(base, "").latents), ("a fox", "a house"))
    config = replace(CONFIG, prior_share=0.9, steps=3, method=method)
    seen, made = toy(base, "a <pip>", prior=prior), trainable(base, config)
    generator = [torch.Generator().manual_seed(config.seed * 1_000_003 + step) for step in range(3)]
    assert any("<pip>" not in draw_batches(seen, config, each)[0].prompts[0] for each in generator)
    losses = learn(base, made, seen, config, tmp_path, silent)
    assert all(map(math.isfinite, losses))
    assert len(losses) == 3


def test_some_prior_pictures_go_without_their_words(base: BaseModel) -> None:
    prior = PriorSet(torch.stack(toy(base, "").latents), ("a fox", "a house"))
    seen = toy(base, "a <pip>", prior=prior)
    config = replace(CONFIG, batch_size=200, prior_share=0.5)
    (drawn,) = draw_batches(seen, config, torch.Generator().manual_seed(0))
    prompts = drawn.prompts
    assert set(prompts[100:]) == {"", "a fox", "a house"}
    assert 5 < prompts.count("") < 40


def test_prior_pictures_are_drawn_once_and_kept(base: BaseModel, tmp_path: Path) -> None:
    defaults = replace(base.defaults, steps=1, prior_pictures=3, prior_prompts=("a fox", ""))
    quick = replace(base, defaults=defaults)
    told: list[int] = []
    made = prior_set(quick, tmp_path, lambda _, done, __: told.append(done))
    assert made.prompts == ("a fox", "", "a fox")
    assert len(made.latents) == 3
    assert told == [0, 3]
    again = prior_set(quick, tmp_path, lambda _, done, __: told.append(done))
    assert torch.equal(again.latents, made.latents)
    assert told == [0, 3]


def test_processes_draw_prior_pictures_together(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prior, "_BATCH", 1)
    defaults = replace(base.defaults, steps=1, prior_pictures=2, prior_prompts=("a fox", ""))
    quick = replace(base, defaults=defaults)
    alone = prior_set(quick, tmp_path / "alone", silent)
    shared = tmp_path / "shared"
    shared.mkdir()
    others = FileLock(shared / "prior-0.lock")
    with ThreadPoolExecutor(1) as pool:
        with others:  # as if another process were at the first one
            drawing = pool.submit(prior_set, quick, shared, silent)
            while not (shared / "prior-1.safetensors").is_file():
                assert not drawing.done()
                time.sleep(0.01)
            copy(tmp_path / "alone" / "prior-0.safetensors", shared)
        together = drawing.result()
    assert torch.equal(together.latents, alone.latents)


def test_a_cell_that_the_subject_touches_counts_in_full(base: BaseModel) -> None:
    side, scale = base.side, base.vae_scale
    mask = torch.zeros(side, side)
    mask[scale, 2 * scale] = 1
    seen = training_set(base, [Example("a.png", torch.zeros(3, side, side), mask, ("a",))], None)
    (mask,) = seen.masks
    assert mask.nonzero().tolist() == [[0, 1, 2]]
    assert mask.max() == 1
    assert seen.latents[0].shape[1:] == mask.shape[1:] == (side // scale, side // scale)


def test_a_task_becomes_a_concept_that_fits_its_base(base: BaseModel, tmp_path: Path) -> None:
    out = tmp_path / "pip.safetensors"
    edlora.train_concept(base, train_task(base, tmp_path, steps=2), out, tmp_path, silent)
    made = Concept.load(out)
    made.fits(base)
    assert (made.name, made.kind, made.class_phrase) == ("pip", "character", "fox")
    assert set(made.deltas) == set(base.linears)
    assert all(delta.rank == 1 for delta in made.deltas.values())
    assert made.recipe["pictures"] == 2
    assert made.recipe["steps"] == 2


def test_a_caption_over_the_limit_is_refused_before_the_first_step(
    base: BaseModel, tmp_path: Path
) -> None:
    task = train_task(base, tmp_path, steps=2)
    (tmp_path / "b.txt").write_text("a <pip>\na <pip> " + "very " * 80 + "far away\n")
    with pytest.raises(StoryForgeError, match="tokens long"):
        edlora.train_concept(base, task, tmp_path / "pip.safetensors", tmp_path, killer(0))


def test_what_the_author_leaves_out_is_the_habit_of_the_base(
    base: BaseModel, tmp_path: Path
) -> None:
    task = replace(train_task(base, tmp_path), settings=TrainSettings(unet_lr=0.0, seed=3))
    made, defaults = config_of(task, base), base.defaults
    assert (made.steps, made.batch_size) == (defaults.train_steps, defaults.train_batch)
    assert (made.embedding_lr, made.text_lr) == (defaults.embedding_lr, defaults.text_lr)
    assert (made.unet_lr, made.seed, made.alpha) == (0.0, 3, made.rank)


def test_where_no_picture_has_a_mask_the_habits_are_slower_and_the_authors_rates_stay(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = replace(train_task(base, tmp_path), settings=TrainSettings(unet_lr=0.5))
    monkeypatch.setattr(base, "defaults", replace(base.defaults, unmasked_pace=0.5))
    held = config_of(task, base)
    made = unmasked(held, task, base)
    assert made == replace(held, embedding_lr=held.embedding_lr / 2, text_lr=held.text_lr / 2)
    assert made.unet_lr == 0.5
