"""ED-LoRA (Mix-of-Show §3.2): layer-wise two-word embeddings and rank-r deltas of one concept.

The embeddings carry what can be said in words of the base, the deltas the rest. Every step's
randomness comes from (seed, step), so that a resumed run is the run that was killed. The methods
that ED-LoRA is compared with differ in what is learnt (`recipe.METHODS`), not in how.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from diffusers import DDPMScheduler

from storyforge.errors import StoryForgeError
from storyforge.executor import Tell
from storyforge.model.attention import Reader, predict, reading
from storyforge.model.base import BaseModel, best_device, open_base
from storyforge.model.gaze import Gaze
from storyforge.model.lora import attached
from storyforge.model.tokens import encode, token_ids
from storyforge.plan import TrainTask
from storyforge.train.checkpoint import Progress, keep, resume
from storyforge.train.composing import with_composed
from storyforge.train.dataset import Example, read_examples
from storyforge.train.drift import drift_of
from storyforge.train.journal import Journal, preview_prompts
from storyforge.train.learner import Average, Learner
from storyforge.train.logs import Logs
from storyforge.train.loss import outside, picture_losses, snr_weights
from storyforge.train.material import Material, Noised, draw, material, noised
from storyforge.train.optimizer import make_optimizer
from storyforge.train.prior import PriorSet, prior_set
from storyforge.train.recipe import Recipe, recipe_of
from storyforge.train.stopping import Judge
from storyforge.train.watch import Watch

SAVE_EVERY = 25
"""Steps between checkpoints."""

STATE = "state.safetensors"
LAST_GOOD = "last-good.safetensors"
"""The checkpoint, and what is left of a run that broke down, in its scratch folder."""


_REMEDY = "lower `train: unet_lr` and `embedding_lr` in its concept.yaml"


class BrokeDown(StoryForgeError):
    """The loss is no longer a number."""


def perform(
    task: TrainTask,
    out: Path,
    scratch: Path,
    tell: Tell,
    logs: Logs | None = None,
    *,
    judge: Judge | None = None,
) -> None:
    """Train the concept of `task` and write it to `out`; checkpoints go to `scratch`.

    `judge` looks at pictures on the way, if the task's settings say so.

    Raises:
      StoryForgeError: for pictures or captions that cannot be used, before the first step; if the
        loss is no longer a number, with the last good concept kept in `scratch`.
    """
    base = open_base(task.base, task.base_hash, device=best_device())
    recipe = recipe_of(task, base)
    examples = _examples(task, base, recipe)
    learner = Learner(base, task.concept, task.class_phrase, recipe)
    seen = material(base, examples, _prior(base, recipe, scratch, tell), scratch.parent / "latents")
    if recipe.composed is not None:
        concept, kept = (task.concept, task.class_phrase), _own_folder(base, scratch)
        seen = with_composed(base, seen, concept, kept, tell, seed=recipe.seed)
    journal = None
    if logs is not None:
        prompts = preview_prompts(task.kind, task.concept, task.class_phrase)
        journal = Journal(base, logs, prompts, examples[0].pixels, recipe.steps)
    watch = None
    if task.settings.judged and judge is not None:
        watch = Watch(base, judge, task, recipe, tell, logs)
    try:
        losses = learn(base, learner, seen, recipe, scratch, tell, journal, watch)
    except BrokeDown as exc:
        raise _rescued(exc, task, base, recipe, scratch) from exc
    tail = losses[-max(1, len(losses) // 10) :]
    story: dict[str, object] = {
        **recipe.told(),
        "pictures": len(examples),
        "masks": sum(e.mask is not None for e in examples),
        "loss_last_tenth": sum(tail) / len(tail),
        **(watch.told() if watch is not None else {}),
    }
    with torch.no_grad():
        tell("measuring drift", 0, 1)
        story["drift"] = round(drift_of(base, learner.finished(task, base, {})), 5)
        learner.finished(task, base, story).save(out)
        tell("measuring drift", 1, 1)


def _examples(task: TrainTask, base: BaseModel, recipe: Recipe) -> list[Example]:
    """The pictures, mirrored ones after them; no caption is longer than the base takes."""
    cell = base.vae_scale * 2 ** (len(base.unet.config.block_out_channels) - 1)
    examples = read_examples(
        task.folder,
        task.images,
        name=task.concept,
        kind=task.kind,
        side=base.side,
        cell=cell if recipe.buckets else None,
    )
    for example in examples:
        for caption in example.captions:
            token_ids(base, caption, [task.concept])
    if recipe.flip:
        examples += [example.mirrored() for example in examples]
    return examples


def _prior(base: BaseModel, recipe: Recipe, scratch: Path, tell: Tell) -> PriorSet | None:
    if not recipe.prior_rows:
        return None
    return prior_set(base, _own_folder(base, scratch), tell)


def _own_folder(base: BaseModel, scratch: Path) -> Path:
    """Where pictures that the base drew itself are kept for all of its concepts."""
    habits = base.habits
    drawn = f"{base.hash} {habits.drawing} {habits.prior_pictures} {habits.prior_prompts}"
    return scratch.parent / f"prior-{hashlib.sha256(drawn.encode()).hexdigest()[:20]}"


def _rescued(
    error: BrokeDown, task: TrainTask, base: BaseModel, recipe: Recipe, scratch: Path
) -> StoryForgeError:
    """The error, with where the last good concept lies if a checkpoint was written before."""
    learner = Learner(base, task.concept, task.class_phrase, recipe)
    progress = _progress(base, learner, recipe)
    resume(scratch / STATE, progress, recipe)
    done = len(progress.losses)
    if not done:
        return StoryForgeError(error.message, hint=_REMEDY)
    with torch.no_grad():
        told = {**recipe.told(), "stopped_at": done}
        learner.finished(task, base, told).save(scratch / LAST_GOOD)
    where = f"what was learnt in {done} steps is kept at `{scratch / LAST_GOOD}`"
    return StoryForgeError(error.message, hint=f"{_REMEDY}; {where}")


def _progress(base: BaseModel, learner: Learner, recipe: Recipe) -> Progress:
    optimizer = make_optimizer(learner, recipe, base.device)
    average = None if recipe.ema is None else Average(learner, recipe.ema)
    half = recipe.autocast(base.device) == torch.float16
    scaler = torch.amp.GradScaler(base.device.type) if half else None
    return Progress(learner, optimizer, [], average, scaler)


def learn(
    base: BaseModel,
    learner: Learner,
    seen: Material,
    recipe: Recipe,
    scratch: Path,
    tell: Tell,
    journal: Journal | None = None,
    watch: Watch | None = None,
) -> list[float]:
    """Run the steps that are left, and return the loss of every step.

    With a watch the run may end early, and the learner has the weights of the step it chose.

    Raises:
      BrokeDown: if the loss is no longer a number; the last checkpoint is left as it is.
    """
    progress = _progress(base, learner, recipe)
    scheduler = DDPMScheduler.from_config(base.scheduler_config)
    if watch is not None:
        progress.seen = watch.seen
    resume(scratch / STATE, progress, recipe)
    if watch is not None:
        watch.begin()
    if journal is not None:
        journal.begin(progress)
    try:
        for step in range(len(progress.losses), recipe.steps):
            if watch is not None and watch.over:
                break
            tell("learning", step, recipe.steps)
            _step(base, progress, seen, recipe, scheduler)
            if journal is not None:
                journal.step(progress, 1 - step / recipe.steps)
            if watch is not None:
                watch.look(progress)
            done = len(progress.losses)
            if done % SAVE_EVERY == 0 and done < recipe.steps:
                keep(scratch / STATE, progress, recipe)
                if journal is not None:
                    journal.write(progress)
    finally:
        if journal is not None:
            journal.end(progress)
    tell("learning", recipe.steps, recipe.steps)
    if progress.average is not None:
        progress.average.give(learner)
    if watch is not None:
        watch.settle(learner)
    return progress.losses


def _step(
    base: BaseModel, progress: Progress, seen: Material, recipe: Recipe, scheduler: DDPMScheduler
) -> None:
    """One step of the optimiser, and its loss noted."""
    step, optimizer, scaler = len(progress.losses), progress.optimizer, progress.scaler
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * (1 - step / recipe.steps)
    dice = torch.Generator().manual_seed((recipe.seed * 1_000_003 + step) % 2**63)
    optimizer.zero_grad()
    total = 0.0
    for batch in draw(seen, recipe, dice):
        for part in noised(batch, recipe, scheduler, dice).parts(recipe.accumulate):
            total += _pass(base, progress, part, recipe, scheduler)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    if recipe.norm_guard is not None:
        progress.learner.guard(recipe.norm_guard)
    if progress.average is not None:
        progress.average.update(progress.learner, step)
    progress.losses.append(total)


def _pass(
    base: BaseModel,
    progress: Progress,
    part: Noised,
    recipe: Recipe,
    scheduler: DDPMScheduler,
) -> float:
    """Send a part of a batch forth and back; its share of the batch's mean loss."""
    learner, dtype = progress.learner, recipe.autocast(base.device)
    gaze = Gaze(base) if recipe.attention_reg else None
    lower = nullcontext() if dtype is None else torch.autocast(base.device.type, dtype)
    with attached(base, learner.deltas()), _checkpointing(base, recipe.checkpointing):
        with lower:
            text = encode(base, part.prompts, learner.tokens())
        # Checkpointing computes the way forth again on the way back: both are inside.
        with reading(base, Reader(text)):
            with lower, gaze.watching() if gaze else nullcontext():
                made = predict(base, part.noisy, part.times, text)
            loss = _loss(made, part, recipe, scheduler)
            if gaze is not None:
                astray = outside(gaze, learner.name, part.prompts, part.weights, part.pointed)
                share = len(part.prompts) / recipe.batch_size
                loss = loss + recipe.attention_reg * share * astray
            if not math.isfinite(loss.item()):
                raise BrokeDown(
                    f"training `{learner.name}` broke down at step {len(progress.losses)}: "
                    f"the loss is {loss.item()}",
                    hint=_REMEDY,
                )
            scaler = progress.scaler
            torch.autograd.backward(loss if scaler is None else scaler.scale(loss))
    return loss.item()


def _loss(
    made: torch.Tensor, part: Noised, recipe: Recipe, scheduler: DDPMScheduler
) -> torch.Tensor:
    """What the part's pictures add to the mean over the batch."""
    losses = picture_losses(made, part.wanted, part.weights)
    if recipe.min_snr_gamma is not None:
        losses = losses * snr_weights(scheduler, part.times, recipe.min_snr_gamma)
    return losses.sum() / recipe.batch_size


@contextmanager
def _checkpointing(base: BaseModel, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    base.unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        base.unet.disable_gradient_checkpointing()
