"""ED-LoRA (Mix-of-Show §3.2): layer-wise two-word embeddings and rank-r deltas of one concept.

The embeddings carry what can be said in words of the base, the deltas the rest. Every step's
randomness comes from (seed, step), so that a resumed run is the run that was killed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from storyforge.errors import StoryForgeError
from storyforge.executor import Tell
from storyforge.model.attention import Reader, predict, reading
from storyforge.model.base import BaseModel, best_device, open_base
from storyforge.model.concept import Concept
from storyforge.model.lora import Delta, attached
from storyforge.model.tokens import ConceptTokens, encode, new_tokens, token_ids
from storyforge.plan import TrainTask
from storyforge.train.dataset import Example, read_examples
from storyforge.train.prior import PriorSet, prior_set

CAPTION_DROPOUT = 0.2
"""Part of the prior pictures that go without a caption, so that the empty prompt stays put."""

SAVE_EVERY = 25
"""Steps between checkpoints."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every number of a training run; see `subject.TrainSettings` for their meaning."""

    steps: int
    batch_size: int
    rank: int
    alpha: float
    embedding_lr: float
    text_lr: float
    unet_lr: float
    noise_offset: float
    prior_share: float
    seed: int

    @property
    def prior_rows(self) -> int:
        """Pictures of a batch that the base drew itself; at least one is the concept's."""
        return min(round(self.batch_size * self.prior_share), self.batch_size - 1)


class Learner(nn.Module):
    """What is trained: the words and the low-rank factors of one concept."""

    def __init__(self, base: BaseModel, name: str, class_phrase: str, recipe: Recipe) -> None:
        """Begin with `up` = 0: the untrained concept is the base with a new name."""
        super().__init__()
        generator = torch.Generator().manual_seed(recipe.seed)
        self.name, self.scale = name, recipe.alpha / recipe.rank
        self.words = nn.Parameter(new_tokens(base, name, class_phrase, generator).words)
        self.names = list(base.linears)
        downs, ups = [], []
        for linear in base.linears.values():
            noise = torch.randn(recipe.rank, linear.in_features, generator=generator)
            downs.append(nn.Parameter((noise / recipe.rank).to(base.device)))
            ups.append(nn.Parameter(torch.zeros(linear.out_features, recipe.rank).to(base.device)))
        self.downs, self.ups = nn.ParameterList(downs), nn.ParameterList(ups)

    def deltas(self) -> dict[str, Delta]:
        """The changes as they are now; gradients flow."""
        return {
            name: Delta(up, down, self.scale)
            for name, up, down in zip(self.names, self.ups, self.downs, strict=True)
        }

    def tokens(self) -> dict[str, ConceptTokens]:
        """The words as they are now; gradients flow."""
        return {self.name: ConceptTokens(self.name, self.words)}

    def finished(self, task: TrainTask, base: BaseModel, recipe: Mapping[str, object]) -> Concept:
        """The concept as it is now."""
        return Concept(
            task.concept,
            task.kind,
            task.class_phrase,
            self.tokens()[self.name],
            self.deltas(),
            base.name,
            base.hash,
            recipe,
            task.licence,
        )

    def groups(self, recipe: Recipe) -> list[dict[str, object]]:
        """Parameter groups of the optimiser, each with its learning rate."""
        text = [n.startswith("text_encoder.") for n in self.names]
        pairs = list(zip(text, self.ups, self.downs, strict=True))
        return [
            {"params": [self.words], "peak": recipe.embedding_lr, "weight_decay": 0.0},
            {"params": [p for t, *ps in pairs if t for p in ps], "peak": recipe.text_lr},
            {"params": [p for t, *ps in pairs if not t for p in ps], "peak": recipe.unet_lr},
        ]


@dataclass(frozen=True, slots=True)
class Material:
    """All that a step draws from.

    latents  (n, c, h, w) of the examples
    masks    (n, 1, h, w) weight of each latent cell in the loss
    """

    examples: list[Example]
    latents: torch.Tensor
    masks: torch.Tensor
    prior: PriorSet | None


def recipe_of(task: TrainTask, base: BaseModel) -> Recipe:
    """The author's settings, filled up with the base's habits."""
    own, habits = task.settings, base.habits

    def pick(value: float | None, habit: float) -> float:
        return habit if value is None else value

    return Recipe(
        steps=own.steps or habits.train_steps,
        batch_size=own.batch_size or habits.train_batch,
        rank=own.rank,
        alpha=pick(own.alpha, own.rank),
        embedding_lr=pick(own.embedding_lr, habits.embedding_lr),
        text_lr=pick(own.text_lr, habits.text_lr),
        unet_lr=pick(own.unet_lr, habits.unet_lr),
        noise_offset=pick(own.noise_offset, habits.noise_offset),
        prior_share=pick(own.prior_share, habits.prior_share),
        seed=own.seed,
    )


def perform(task: TrainTask, out: Path, scratch: Path, tell: Tell) -> None:
    """Train the concept of `task` and write it to `out`; checkpoints go to `scratch`.

    Raises:
      StoryForgeError: for pictures or captions that cannot be used, before the first step.
    """
    base = open_base(task.base, task.base_hash, device=best_device())
    recipe = recipe_of(task, base)
    examples = read_examples(
        task.folder, task.images, name=task.concept, kind=task.kind, side=base.side
    )
    for example in examples:
        for caption in example.captions:
            token_ids(base, caption, [task.concept])
    prior = None
    if recipe.prior_rows:
        mark = hashlib.sha256(task.base_hash.encode()).hexdigest()[:20]
        prior = prior_set(base, scratch.parent / f"prior-{mark}", tell)
    learner = Learner(base, task.concept, task.class_phrase, recipe)
    losses = learn(base, learner, material(base, examples, prior), recipe, scratch, tell)
    tail = losses[-max(1, len(losses) // 10) :]
    story = {
        **asdict(recipe),
        "pictures": len(examples),
        "masks": sum(e.mask is not None for e in examples),
        "loss_last_tenth": sum(tail) / len(tail),
    }
    with torch.no_grad():
        learner.finished(task, base, story).save(out)


def material(base: BaseModel, examples: list[Example], prior: PriorSet | None) -> Material:
    """Encode the examples once; a cell that any part of the subject touches counts in full."""
    latents = base.encode(torch.stack([e.pixels for e in examples]).to(base.device))
    cells = latents.shape[-2:]
    masks = [
        torch.ones(1, *cells) if e.mask is None else F.adaptive_max_pool2d(e.mask[None], cells)
        for e in examples
    ]
    return Material(examples, latents, torch.stack(masks).to(base.device), prior)


def learn(
    base: BaseModel, learner: Learner, seen: Material, recipe: Recipe, scratch: Path, tell: Tell
) -> list[float]:
    """Run the steps that are left, and return the loss of every step.

    Raises:
      StoryForgeError: if the loss is no longer a number.
    """
    groups = learner.groups(recipe)
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), weight_decay=0.01)
    scheduler = DDPMScheduler.from_config(base.scheduler_config)
    losses = _resume(scratch / "state.safetensors", learner, optimizer, recipe)
    for step in range(len(losses), recipe.steps):
        tell("learning", step, recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * (1 - step / recipe.steps)
        loss = _step_loss(base, learner, seen, recipe, scheduler, step)
        if not math.isfinite(loss.item()):
            raise StoryForgeError(
                f"training `{learner.name}` broke down at step {step}: the loss is {loss.item()}",
                hint="lower `train: unet_lr` and `embedding_lr` in its concept.yaml",
            )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % SAVE_EVERY == 0 and len(losses) < recipe.steps:
            _keep(scratch / "state.safetensors", learner, optimizer, recipe, losses)
    tell("learning", recipe.steps, recipe.steps)
    return losses


def _step_loss(
    base: BaseModel,
    learner: Learner,
    seen: Material,
    recipe: Recipe,
    scheduler: DDPMScheduler,
    step: int,
) -> torch.Tensor:
    dice = torch.Generator().manual_seed((recipe.seed * 1_000_003 + step) % 2**63)
    clean, weights, prompts = _batch(seen, recipe, dice)
    clean, weights = clean.to(base.device), weights.to(base.device)
    noise = torch.randn(clean.shape, generator=dice)
    noise += recipe.noise_offset * torch.randn(*clean.shape[:2], 1, 1, generator=dice)
    noise = noise.to(clean)
    total = int(scheduler.config.num_train_timesteps)
    times = torch.randint(0, total, (len(clean),), generator=dice).to(clean.device)
    noisy = scheduler.add_noise(clean, noise, times)
    wanted = noise
    if scheduler.config.prediction_type == "v_prediction":
        wanted = scheduler.get_velocity(clean, noise, times)
    with attached(base, learner.deltas()):
        text = encode(base, prompts, learner.tokens())
        with reading(base, Reader(text)):
            made = predict(base, noisy, times, text)
    return masked_loss(made, wanted, weights)


def masked_loss(made: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean square error over the weighted cells *and* all channels, picture by picture.

    made, wanted  (b, c, h, w)
    weights       (b, 1, h, w) in [0, 1]
    """
    error = (made.float() - wanted.float()).square().mean(1, keepdim=True)
    per_picture = (error * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp(min=1e-6)
    return per_picture.mean()


def _batch(
    seen: Material, recipe: Recipe, dice: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    ordinary = recipe.prior_rows if seen.prior else 0
    own = recipe.batch_size - ordinary
    rows = torch.randint(0, len(seen.examples), (own,), generator=dice).tolist()
    prompts = []
    for row in rows:
        captions = seen.examples[row].captions
        prompts.append(captions[int(torch.randint(0, len(captions), (1,), generator=dice))])
    clean, weights = seen.latents[rows], seen.masks[rows]
    if seen.prior and ordinary:
        extra = torch.randint(0, len(seen.prior.prompts), (ordinary,), generator=dice).tolist()
        silent = torch.rand(ordinary, generator=dice) < CAPTION_DROPOUT
        prompts += [
            "" if quiet else seen.prior.prompts[row]
            for row, quiet in zip(extra, silent.tolist(), strict=True)
        ]
        latents = seen.prior.latents[extra].to(clean)
        clean = torch.cat([clean, latents])
        weights = torch.cat([weights, torch.ones_like(latents[:, :1])])
    return clean, weights, prompts


def _keep(
    path: Path,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    losses: list[float],
) -> None:
    tensors = {f"learner.{k}": v for k, v in learner.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    part = path.with_suffix(".part")
    meta = {"losses": json.dumps(losses), "recipe": json.dumps(asdict(recipe))}
    save_file({k: v.detach().cpu().clone() for k, v in tensors.items()}, part, meta)
    part.replace(path)


def _resume(
    path: Path, learner: Learner, optimizer: torch.optim.Optimizer, recipe: Recipe
) -> list[float]:
    """Go on from a checkpoint of the same recipe; the losses so far, none without one."""
    if not path.is_file():
        return []
    with safe_open(path, "pt") as file:
        meta = file.metadata()
        if json.loads(meta["recipe"]) != asdict(recipe):
            return []
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    learner.load_state_dict(
        {k.removeprefix("learner."): v for k, v in tensors.items() if k.startswith("learner.")}
    )
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    losses: list[float] = json.loads(meta["losses"])
    return losses
