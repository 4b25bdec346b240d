"""What a training run can be told to do otherwise, and what it leaves beside the concept."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support import CONFIG, Killed, killer, toy, train_task, trainable
from torch import Tensor
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import silent
from storyforge.model.attention import AttentionContext, attending, predict
from storyforge.model.attention_maps import AttentionRecorder
from storyforge.model.base import BaseModel
from storyforge.model.card import Card
from storyforge.model.concept import Concept
from storyforge.model.lora import Delta, attached
from storyforge.model.tokens import ConceptTokens, encode, new_tokens
from storyforge.plan.keys import _plain
from storyforge.settings import TrainSettings
from storyforge.train import edlora
from storyforge.train.checkpoint import TrainingState, load_state, save_state
from storyforge.train.config import METHODS, TrainConfig
from storyforge.train.dataset import Example
from storyforge.train.drift import drift_of
from storyforge.train.edlora import learn
from storyforge.train.logs import Logs
from storyforge.train.loss import outside
from storyforge.train.prior import PriorSet
from storyforge.train.trainable import TrainableConcept, WeightAverage
from storyforge.train.training_set import TrainingSet, draw_batches, training_set

SHORT = replace(CONFIG, steps=2)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads add up in another order each time: equal to the bit holds on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def quick(base: BaseModel) -> BaseModel:
    """The base, drawing previews in one step."""
    return replace(base, defaults=replace(base.defaults, steps=1))


def trained(base: BaseModel, config: TrainConfig, folder: Path) -> tuple[list[float], list[Tensor]]:
    """Losses and weights of a run on two small pictures."""
    made = trainable(base, config)
    losses = learn(base, made, toy(base, "a <pip>", "a fox"), config, folder, silent)
    return losses, [weight.detach().clone() for weight in made.learnt()]


def test_an_option_that_is_left_out_changes_no_key() -> None:
    assert _plain(TrainSettings()) == {"rank": 4, "seed": 0, "method": "ed-lora"}
    for name, field in TrainSettings.model_fields.items():
        if name not in {"rank", "seed", "method"}:
            assert field.default is None, name


def test_gradient_accumulation_learns_what_the_whole_batch_does(
    base: BaseModel, tmp_path: Path
) -> None:
    whole = replace(SHORT, batch_size=3)
    one = trained(base, whole, tmp_path / "1")
    three = trained(base, replace(whole, accumulate=2), tmp_path / "2")
    torch.testing.assert_close(one[0], three[0], rtol=1e-3, atol=1e-6)
    # Adam moves a weight by its rate however small the gradient is: where that is rounding alone,
    # it may go either way, so single weights may part by twice the rate a step; most may not.
    rate = max(whole.unet_lr, whole.text_lr, whole.embedding_lr)
    apart = torch.cat([(a - b).abs().flatten() for a, b in zip(one[1], three[1], strict=True)])
    assert apart.max() <= 2.1 * rate * whole.steps
    assert apart.mean() < 0.01 * rate


def test_checkpointing_computes_the_same_gradients(base: BaseModel, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=1, attention_reg=0.5)
    plain = trained(base, config, tmp_path)
    saved = trained(base, replace(config, checkpointing=True), tmp_path)
    assert plain[0] == saved[0]
    for one, other in zip(plain[1], saved[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not base.unet.is_gradient_checkpointing


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_and_keeps_the_weights_whole(
    base: BaseModel, precision: str, tmp_path: Path
) -> None:
    plain, _ = trained(base, SHORT, tmp_path)
    losses, weights = trained(base, replace(SHORT, precision=precision), tmp_path)
    assert losses[0] == pytest.approx(plain[0], rel=0.05)
    assert losses[0] != plain[0]
    assert all(weight.dtype == torch.float32 for weight in weights)


def test_auto_is_the_precision_of_the_weights_on_a_processor() -> None:
    assert replace(SHORT, precision="auto").autocast(torch.device("cpu")) is None


def test_a_resumed_run_is_bit_equal_with_every_state_there_is(
    base: BaseModel, tmp_path: Path
) -> None:
    config = replace(CONFIG, steps=3, ema=0.9, precision="fp16", accumulate=2, norm_guard=1.4)
    whole, resumed = trainable(base, config), trainable(base, config)
    seen = toy(base, "a <pip>", "a fox")
    with pytest.raises(Killed):
        learn(base, trainable(base, config), seen, config, tmp_path, killer(2), save_every=1)
    told: list[int] = []
    losses = learn(base, resumed, seen, config, tmp_path, lambda _, done, __: told.append(done))
    assert told[0] == 2
    (other := tmp_path / "other").mkdir()
    assert losses == learn(base, whole, seen, config, other, silent)
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)


class Counting(torch.optim.SGD):
    """Keeps a number for each weight and each group, as Prodigy does."""

    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["estimate"] = 0.5 + group.get("estimate", 0)
            for weight in group["params"]:
                state = self.state[weight]
                state["times"] = state.get("times", 0) + 1
                state["kept"] = weight.detach() + 1


def test_what_an_optimiser_counts_is_kept_with_its_tensors(base: BaseModel, tmp_path: Path) -> None:
    def progress() -> TrainingState:
        made = trainable(base)
        return TrainingState(made, Counting(made.rates(CONFIG), lr=0.1), [])

    first, second = progress(), progress()
    first.optimizer.step()
    first.losses.append(0.25)
    save_state(tmp_path / "state.safetensors", first, CONFIG)
    load_state(tmp_path / "state.safetensors", second, CONFIG)
    assert second.losses == [0.25]
    assert second.optimizer.param_groups[0]["estimate"] == 0.5
    (words,) = second.optimizer.param_groups[0]["params"]
    state = second.optimizer.state[words]
    assert state["times"] == 1
    assert torch.equal(state["kept"], words + 1)


@pytest.mark.parametrize(
    ("optimizer", "module"), [("prodigy", "prodigyopt"), ("adamw-8bit", "bitsandbytes.optim")]
)
def test_an_optimiser_that_is_not_installed_is_one_clear_error(
    base: BaseModel, optimizer: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EnvironmentProblem, match=f"`optimizer: {optimizer}` needs") as caught:
        trained(base, replace(SHORT, optimizer=optimizer), tmp_path)
    assert f"storyforge[{optimizer}]" in str(caught.value.hint)


def test_the_running_mean_is_what_remains(base: BaseModel, tmp_path: Path) -> None:
    plain = trained(base, replace(CONFIG, steps=1), tmp_path)[1]
    mean = trained(base, replace(CONFIG, steps=1, ema=0.9), tmp_path)[1]
    before = trainable(base).learnt()
    for start, last, made in zip(before, plain, mean, strict=True):
        torch.testing.assert_close(made, start.lerp(last, 1 - 0.1))


def test_the_running_mean_stands_in_and_leaves_no_trace(base: BaseModel) -> None:
    made = trainable(base)
    average, before = WeightAverage(made, 0.5), made.words.detach().clone()
    with torch.no_grad():
        made.words += 1
    own = made.words.detach().clone()
    with average.standing_in(made):
        assert torch.equal(made.words, before)
    assert torch.equal(made.words, own)


def test_min_snr_lowers_the_loss_of_a_step(base: BaseModel, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=1, batch_size=4)
    plain, _ = trained(base, config, tmp_path)
    weighed, _ = trained(base, replace(config, min_snr_gamma=0.01), tmp_path)
    assert weighed[0] < plain[0]


def test_guarded_embeddings_stay_as_short_as_words(base: BaseModel, tmp_path: Path) -> None:
    config = replace(SHORT, embedding_lr=0.5)
    made = trainable(base, config)
    limit = 1.4 * made.word_lengths[0]
    seen = toy(base, "a <pip>")
    learn(base, made, seen, config, tmp_path, silent)
    assert made.words.norm(dim=-1).max() > limit
    guarded = trainable(base, config)
    learn(base, guarded, seen, replace(config, norm_guard=1.4), tmp_path, silent)
    assert guarded.words.norm(dim=-1).max() <= limit * 1.0001


def looked(base: BaseModel, made: TrainableConcept, mask: Tensor) -> Tensor:
    """How much of the gaze of `<pip>` lies outside `mask`, in one pass."""
    prompts = ["a <pip> in the snow", "a house"]
    latents = torch.stack(toy(base, "").latents)
    masks, recorder = torch.stack([mask, mask]), AttentionRecorder(base)
    with attached(base, made.deltas()):
        text = encode(base, prompts, made.tokens())
        with attending(base, AttentionContext(text)), recorder.watching():
            predict(base, latents, torch.tensor([500, 500]), text)
    return outside(recorder, "pip", prompts, masks, [True, True])


def test_what_is_looked_at_lies_inside_or_outside_of_the_mask(base: BaseModel) -> None:
    made = trainable(base)
    side = toy(base, "").latents[0].shape[-1]
    everywhere, left = torch.ones(1, side, side), torch.zeros(1, side, side)
    left[..., : side // 2] = 1
    assert looked(base, made, everywhere) == 0
    whole = looked(base, made, torch.zeros_like(left)).item()
    parts = looked(base, made, left).item(), looked(base, made, left.flip(-1)).item()
    assert 0 < max(parts) <= whole <= 1
    looked(base, made, left).backward()
    assert made.words.grad is not None
    assert made.words.grad.abs().max() > 0
    assert not base.unet._forward_hooks


def test_attention_is_drawn_into_masks_only_where_there_are_some(
    base: BaseModel, tmp_path: Path
) -> None:
    config = replace(CONFIG, steps=1)
    seen = toy(base, "a <pip>")
    for mask in seen.masks:
        mask[..., 1:] = 0
    pointed = [replace(each, mask=torch.ones(1, 1)) for each in seen.examples]

    def losses(examples: list[Example], weight: float) -> list[float]:
        asked = replace(config, attention_reg=weight)
        shown = replace(seen, examples=examples)
        return learn(base, trainable(base), shown, asked, tmp_path, silent)

    assert losses(seen.examples, 0.5) == losses(seen.examples, 0.0)
    assert losses(pointed, 0.5) > losses(pointed, 0.0)


def test_what_is_outside_a_mask_stays_what_the_base_makes_of_the_class(
    base: BaseModel, tmp_path: Path
) -> None:
    seen = toy(base, "a <pip>", "a fox")
    for mask in seen.masks:
        mask[..., 1:] = 0
    noisy, time = torch.randn_like(torch.stack(seen.latents)), torch.tensor([600, 600])

    def astray(weight: float) -> float:
        made = trainable(base)
        asked = replace(CONFIG, steps=12, batch_size=2, masked_prior=weight)
        learn(base, made, seen, asked, tmp_path / f"{weight}", silent)
        with torch.no_grad():
            text = encode(base, ["a fox", "a fox"], {})
            with attending(base, AttentionContext(text)):
                told = predict(base, noisy, time, text)
            with attached(base, made.deltas()):
                text = encode(base, ["a <pip>", "a <pip>"], made.tokens())
                with attending(base, AttentionContext(text)):
                    said = predict(base, noisy, time, text)
        return (said - told)[..., 1:].square().mean().item()

    assert astray(10.0) < 0.5 * astray(0.0)


def test_where_no_picture_has_a_mask_nothing_is_held(base: BaseModel, tmp_path: Path) -> None:
    plain = trained(base, SHORT, tmp_path / "1")
    held = trained(base, replace(SHORT, masked_prior=1.0), tmp_path / "2")
    assert plain[0] == held[0]


def test_pictures_of_several_shapes_are_learnt_from_together(
    base: BaseModel, tmp_path: Path
) -> None:
    cell = base.vae_scale * 2 ** (len(base.unet.config.block_out_channels) - 1)
    shapes = [(cell, cell), (2 * cell, cell), (cell, cell)]
    examples = [Example(f"{n}", torch.rand(3, *s), None, ("a fox",)) for n, s in enumerate(shapes)]
    seen = training_set(base, examples, None)
    batches = draw_batches(seen, replace(CONFIG, batch_size=12), torch.Generator().manual_seed(0))
    assert [len(batch.prompts) > 0 for batch in batches] == [True, True]
    assert sum(len(batch.prompts) for batch in batches) == 12
    assert len({batch.clean.shape[1:] for batch in batches}) == 2
    losses = learn(base, trainable(base), seen, replace(SHORT, batch_size=3), tmp_path, silent)
    assert all(0 < loss < 10 for loss in losses)


def test_latents_are_kept_by_the_content_of_the_pictures(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = base.vae_scale * 4
    encoded: list[int] = []
    plain = BaseModel.encode

    def counted(self: BaseModel, pictures: Tensor) -> Tensor:
        encoded.append(len(pictures))
        return plain(self, pictures)

    monkeypatch.setattr(BaseModel, "encode", counted)

    def latents(value: float) -> Tensor:
        examples = [Example("a.png", torch.full((3, cell, cell), value), None, ("a",))]
        return training_set(base, examples, None, tmp_path).latents[0]

    first = latents(0.25)
    assert torch.equal(latents(0.25), first)
    assert encoded == [1]
    assert not torch.equal(latents(0.5), first)
    assert encoded == [1, 1]


def test_a_run_that_breaks_down_leaves_its_last_good_concept(
    quick: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def spoilt(seen: TrainingSet, config: TrainConfig, generator: torch.Generator) -> list[object]:
        drawn.append(1)
        batches = draw_batches(seen, config, generator)
        if len(drawn) == 3:
            batches[0].clean[:] = torch.nan
        return list(batches)

    monkeypatch.setattr(edlora, "draw_batches", spoilt)
    task = train_task(quick, tmp_path, steps=5)
    (scratch := tmp_path / "store" / "key").mkdir(parents=True)
    with pytest.raises(StoryForgeError, match="broke down at step 2: the loss is nan") as caught:
        edlora.train_concept(
            quick, task, tmp_path / "pip.safetensors", scratch, silent, save_every=1
        )
    kept = scratch / edlora.LAST_GOOD
    assert str(kept) in str(caught.value.hint)
    assert Concept.load(kept).recipe["stopped_at"] == 2
    assert all(tensor.isfinite().all() for tensor in load_file(kept).values())
    assert not (tmp_path / "pip.safetensors").exists()


def test_logs_show_the_loss_and_a_preview_from_step_0_and_change_nothing(
    quick: BaseModel, tmp_path: Path
) -> None:
    task = train_task(quick, tmp_path, steps=2)
    one, other, logs = tmp_path / "1", tmp_path / "2", tmp_path / "logs"
    for folder in (one / "key", other / "key"):
        folder.mkdir(parents=True)
    edlora.train_concept(quick, task, one / "pip.safetensors", one / "key", silent)
    edlora.train_concept(quick, task, other / "pip.safetensors", other / "key", silent, Logs(logs))
    kept, logged = load_file(one / "pip.safetensors"), load_file(other / "pip.safetensors")
    assert all(torch.equal(kept[name], logged[name]) for name in kept.keys() | logged.keys())
    cards = Card.read(one / "pip.safetensors"), Card.read(other / "pip.safetensors")
    assert cards[0].recipe == cards[1].recipe
    lines = [json.loads(line) for line in (logs / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert [line["lr"] for line in lines] == [1.0, 0.5]
    shown = sorted(path.name for path in (logs / "previews").iterdir())
    assert shown == [f"{row}-step-{step:06d}.png" for row in range(3) for step in range(3)]
    with Image.open(logs / "previews.png") as sheet, Image.open(logs / "loss.png") as curve:
        assert sheet.width > 4 * 176
        assert len(curve.getcolors(1 << 20) or []) > 3


def test_a_sheet_of_previews_grows_by_a_column(tmp_path: Path) -> None:
    logs, red = Logs(tmp_path), Image.new("RGB", (32, 32), "red")
    widths = []
    for step in (0, 10, 20, 30):
        logs.keep_preview(0, step, red)
        logs.write_previews(["a <pip>"], red)
        with Image.open(tmp_path / "previews.png") as sheet:
            widths.append(sheet.width)
    assert widths[1] < widths[2] < widths[3]
    assert logs.preview_steps(200) == {0, 50, 100, 150, 200}


def test_tensorboard_that_is_not_installed_is_one_clear_error(
    quick: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    task = train_task(quick, tmp_path, steps=2)
    with pytest.raises(EnvironmentProblem, match="`--tensorboard` needs the package"):
        out, logs = tmp_path / "pip.safetensors", Logs(tmp_path / "logs", tensorboard=True)
        edlora.train_concept(quick, task, out, tmp_path, silent, logs)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_learns_what_it_is_known_for(base: BaseModel, method: str, tmp_path: Path) -> None:
    config = replace(SHORT, method=method, norm_guard=50.0)
    made, before = trainable(base, config), trainable(base, config)
    prior = PriorSet(torch.stack(toy(base, "").latents), ("a fox", "a house"))
    seen = toy(base, "a <pip>", prior=prior)
    learn(base, made, seen, replace(config, batch_size=2, prior_share=0.5), tmp_path, silent)
    words = made.tokens()["pip"].words.expand(-1, base.family.groups, -1)
    start = before.tokens()["pip"].words.expand(-1, base.family.groups, -1)
    moved = [not torch.equal(words[k], start[k]) for k in range(2)]
    layered = not torch.equal(words[0], words[0, :1].expand_as(words[0]))
    changed = {base.family.stage(name) for name, delta in made.deltas().items() if delta.up.any()}
    assert (moved, layered, changed) == {
        "ed-lora": ([True, True], True, {"text", "kv", "spatial"}),
        "lora": ([False, False], False, {"text", "kv", "spatial"}),
        "textual-inversion": ([True, False], False, set()),
        "p-plus": ([True, False], True, set()),
        "custom-diffusion": ([True, False], False, {"kv"}),
    }[method]


@pytest.mark.parametrize(
    ("layers", "ends"),
    [
        (("kv",), {"attn2.to_k", "attn2.to_v"}),
        (("cross",), {"attn2.to_q", "attn2.to_out.0"}),
        (("self",), {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"}),
    ],
)
def test_only_the_chosen_layers_of_the_unet_learn(
    base: BaseModel, layers: tuple[str, ...], ends: set[str]
) -> None:
    names = trainable(base, replace(SHORT, layers=layers)).deltas()
    assert {".".join(name.split(".transformer_blocks.0.")[1:]) for name in names} == ends
    text = {name for name in base.linears if name.startswith("text_encoder.")}
    assert set(trainable(base, replace(SHORT, layers=("text",))).deltas()) == text


def test_a_method_that_has_no_choice_of_layers_says_so() -> None:
    with pytest.raises(ValueError, match="`p-plus` has no choice of `layers`"):
        TrainSettings.model_validate({"method": "p-plus", "layers": ["kv"]})


@pytest.mark.parametrize("method", ["lora", "textual-inversion", "custom-diffusion"])
def test_every_method_makes_a_concept_that_draws_as_it_was_learnt(
    quick: BaseModel, method: str, tmp_path: Path
) -> None:
    out = tmp_path / "pip.safetensors"
    edlora.train_concept(
        quick, train_task(quick, tmp_path, steps=1, method=method), out, tmp_path, silent
    )
    made = Concept.load(out)
    made.fits(quick)
    assert made.tokens.words.shape[:2] == (2, quick.family.groups)
    text = encode(quick, ["a <pip>"], {"pip": made.tokens}).features
    assert torch.equal(text[0], text[-1])
    assert made.recipe["method"] == method


def test_words_that_are_the_same_for_all_groups_are_encoded_once(base: BaseModel) -> None:
    words = new_tokens(base, "pip", "fox", torch.Generator().manual_seed(0)).words
    rows: list[int] = []
    handle = base.text_encoder.register_forward_pre_hook(lambda _, ids: rows.append(len(ids[0])))
    try:
        once = encode(base, ["a <pip>"], {"pip": ConceptTokens("pip", words[:, :1])}).features
        many = encode(base, ["a <pip>"], {"pip": ConceptTokens("pip", words)}).features
    finally:
        handle.remove()
    assert rows == [1, base.family.groups]
    torch.testing.assert_close(once, many, rtol=1e-4, atol=1e-4)


def test_a_concept_without_deltas_does_not_drift(base: BaseModel, pip: ConceptTokens) -> None:
    concept = Concept("pip", "character", "fox", pip, {}, base.reference, base.hash)
    assert drift_of(base, concept) == 0


def test_drift_grows_with_the_change(
    base: BaseModel, pip: ConceptTokens, deltas: dict[str, Delta]
) -> None:
    def drift(scale: float) -> float:
        changes = {name: replace(delta, scale=scale) for name, delta in deltas.items()}
        made = Concept("pip", "character", "fox", pip, changes, base.reference, base.hash)
        return drift_of(base, made)

    small, large = drift(0.01), drift(0.1)
    assert 0 < small < large
    assert small == drift(0.01)


def test_a_card_says_what_the_file_holds(quick: BaseModel, tmp_path: Path) -> None:
    out = tmp_path / "pip.safetensors"
    task = replace(train_task(quick, tmp_path, steps=1), licence="CC0-1.0")
    edlora.train_concept(quick, task, out, tmp_path, silent)
    card, made = Card.read(out), Concept.load(out)
    assert (card.name, card.kind, card.class_phrase) == ("pip", "character", "fox")
    assert (card.licence, card.base_hash, card.rank) == ("CC0-1.0", quick.hash, 1)
    assert card.words == tuple(made.tokens.words.shape)
    assert sum(card.changed.values()) == len(made.deltas)
    assert card.drift is not None
    assert card.drift >= 0
    assert card.size == out.stat().st_size
    told = CliRunner().invoke(app, ["concept", "show", str(out)])
    assert told.exit_code == 0
    rows = dict(line.strip().split(maxsplit=1) for line in told.stdout.splitlines())
    assert (rows["kind"], rows["class"], rows["licence"]) == ("character", "fox", "CC0-1.0")
    assert rows["drift"] == f"{card.drift:.1%}"
    assert rows["steps"] == "1"
    (tmp_path / "no.safetensors").write_bytes(b"dear diary")
    with pytest.raises(EnvironmentProblem, match="cannot read"):
        Card.read(tmp_path / "no.safetensors")
