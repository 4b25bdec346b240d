"""ED-LoRA (Mix-of-Show §3.2): layer-wise two-word embeddings and rank-r deltas of one concept.

The embeddings carry what can be said in words of the base, the deltas the rest. Every step's
randomness comes from (seed, step), so that a resumed run is the run that was killed. The methods
that ED-LoRA is compared with differ in what is learnt (`recipe.METHODS`), not in how.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from storyforge.errors import StoryForgeError
from storyforge.executor import OnProgress
from storyforge.model.attention import AttentionContext, attending, predict
from storyforge.model.attention_maps import AttentionRecorder
from storyforge.model.base import BaseModel
from storyforge.model.lora import attached
from storyforge.model.prediction import Noising, error_weights, noising_of
from storyforge.model.tokens import encode, token_ids
from storyforge.pictures import with_articles
from storyforge.tasks import TrainTask
from storyforge.train.checkpoint import TrainingState, load_state, save_state
from storyforge.train.composing import with_composed
from storyforge.train.config import TrainConfig, config_of, unmasked
from storyforge.train.dataset import Example, read_examples
from storyforge.train.drift import drift_of
from storyforge.train.logs import Logs
from storyforge.train.loss import outside, picture_losses
from storyforge.train.optimizer import make_optimizer
from storyforge.train.prior import PriorSet, prior_set
from storyforge.train.stopping import Judge
from storyforge.train.trainable import TrainableConcept, WeightAverage
from storyforge.train.training_log import TrainingLog, preview_prompts
from storyforge.train.training_set import Noised, TrainingSet, draw_batches, noised, training_set
from storyforge.train.validation import Validation

SAVE_EVERY = 25
"""Steps between checkpoints."""

STATE = "state.safetensors"
LAST_GOOD = "last-good.safetensors"
"""The checkpoint, and what is left of a run that broke down, in its scratch folder."""


_REMEDY = "lower `train: unet_lr` and `embedding_lr` in its concept.yaml"


_log = logging.getLogger(__name__)


class BrokeDown(StoryForgeError):
    """The loss is no longer a number."""


def train_concept(
    base: BaseModel,
    task: TrainTask,
    out: Path,
    scratch: Path,
    on_progress: OnProgress,
    logs: Logs | None = None,
    *,
    judge: Judge | None = None,
    save_every: int = SAVE_EVERY,
) -> None:
    """Train the concept of `task` on `base`, and write it to `out`; checkpoints go to `scratch`.

    `judge` looks at pictures on the way, if the task's settings say so; `save_every` counts the
    steps between two checkpoints.

    Raises:
      StoryForgeError: for pictures or captions that cannot be used, before the first step; if the
        loss is no longer a number, with the last good concept kept in `scratch`.
    """
    # The encoder sees no more, however large the decoder writes.
    with base.sized(base.sides[0]):
        _train(base, task, out, scratch, on_progress, logs, judge, save_every)


def _train(
    base: BaseModel,
    task: TrainTask,
    out: Path,
    scratch: Path,
    on_progress: OnProgress,
    logs: Logs | None,
    judge: Judge | None,
    save_every: int,
) -> None:
    config = config_of(task, base)
    _check_asked(base, config)
    examples = _examples(task, base, config)
    if all(example.mask is None for example in examples):
        if task.settings.masked_prior:
            raise StoryForgeError(
                f"`masked_prior` holds what is outside `{task.concept}`, and no picture has a mask",
                hint="lay NAME-mask.png beside a picture, white where the subject is",
            )
        config = unmasked(config, task, base)
    trainable = TrainableConcept(base, task.concept, task.class_phrase, config)
    seen = training_set(
        base, examples, _prior(base, config, scratch, on_progress), scratch.parent / "latents"
    )
    if config.composed is not None:
        concept, kept = (task.concept, task.class_phrase), _own_folder(base, scratch)
        seen = with_composed(base, seen, concept, kept, on_progress, seed=config.seed)
    training_log = None
    if logs is not None:
        prompts = preview_prompts(task.kind, task.concept, task.class_phrase)
        training_log = TrainingLog(base, logs, prompts, examples[0].pixels, config.steps)
    watch = None
    if task.settings.judged and judge is not None:
        watch = Validation(base, judge, task, config, on_progress, logs)
    try:
        losses = learn(
            base,
            trainable,
            seen,
            config,
            scratch,
            on_progress,
            training_log,
            watch,
            save_every=save_every,
        )
    except BrokeDown as exc:
        raise _rescued(exc, task, base, config, scratch) from exc
    tail = losses[-max(1, len(losses) // 10) :]
    story: dict[str, object] = {
        **config.told(),
        "pictures": len(examples),
        "masks": sum(e.mask is not None for e in examples),
        "loss_last_tenth": sum(tail) / len(tail),
        **(watch.told() if watch is not None else {}),
    }
    with torch.no_grad():
        on_progress("measuring drift", 0, 1)
        story["drift"] = round(drift_of(base, trainable.finished(task, base, {})), 5)
        trainable.finished(task, base, story).save(out)
        on_progress("measuring drift", 1, 1)


def _check_asked(base: BaseModel, config: TrainConfig) -> None:
    """Refuse what the base cannot do."""
    base.check_asked(
        {
            "attention_reg": config.attention_reg > 0,
            "min_snr_gamma": config.min_snr_gamma is not None,
            "layers": config.layers is not None,
            "method: custom-diffusion": config.method == "custom-diffusion",
            "method: p-plus": config.method == "p-plus",
        }
    )


def _examples(task: TrainTask, base: BaseModel, config: TrainConfig) -> list[Example]:
    """The pictures, mirrored ones after them; no caption is longer than the base takes."""
    examples = read_examples(
        task.folder,
        task.images,
        name=task.concept,
        kind=task.kind,
        side=base.side,
        cell=base.coarsest if config.buckets else None,
    )
    for example in examples:
        for caption in example.captions:
            token_ids(base, caption, [task.concept])
    if config.flip:
        examples += [example.mirrored() for example in examples]
    return examples


def _prior(
    base: BaseModel, config: TrainConfig, scratch: Path, on_progress: OnProgress
) -> PriorSet | None:
    if not config.prior_rows:
        return None
    return prior_set(base, _own_folder(base, scratch), on_progress)


def _own_folder(base: BaseModel, scratch: Path) -> Path:
    """Where pictures that the base drew itself are kept for all of its concepts."""
    defaults = base.defaults
    drawn = f"{base.hash} {defaults.drawing} {defaults.prior_pictures} {defaults.prior_prompts}"
    return scratch.parent / f"prior-{hashlib.sha256(drawn.encode()).hexdigest()[:20]}"


def _rescued(
    error: BrokeDown, task: TrainTask, base: BaseModel, config: TrainConfig, scratch: Path
) -> StoryForgeError:
    """The error, with where the last good concept lies if a checkpoint was written before."""
    trainable = TrainableConcept(base, task.concept, task.class_phrase, config)
    progress = _progress(base, trainable, config)
    load_state(scratch / STATE, progress, config)
    done = len(progress.losses)
    if not done:
        return StoryForgeError(error.message, hint=_REMEDY)
    with torch.no_grad():
        told = {**config.told(), "stopped_at": done}
        trainable.finished(task, base, told).save(scratch / LAST_GOOD)
    where = f"what was learnt in {done} steps is kept at `{scratch / LAST_GOOD}`"
    return StoryForgeError(error.message, hint=f"{_REMEDY}; {where}")


def _progress(base: BaseModel, trainable: TrainableConcept, config: TrainConfig) -> TrainingState:
    optimizer = make_optimizer(trainable, config, base.device)
    average = None if config.ema is None else WeightAverage(trainable, config.ema)
    half = config.autocast(base.device) == torch.float16
    scaler = torch.amp.GradScaler(base.device.type) if half else None
    return TrainingState(trainable, optimizer, [], average, scaler)


def learn(
    base: BaseModel,
    trainable: TrainableConcept,
    seen: TrainingSet,
    config: TrainConfig,
    scratch: Path,
    on_progress: OnProgress,
    training_log: TrainingLog | None = None,
    watch: Validation | None = None,
    *,
    save_every: int = SAVE_EVERY,
) -> list[float]:
    """Run the steps that are left, and return the loss of every step.

    With a watch the run may end early, and the learner has the weights of the step it chose.

    Raises:
      BrokeDown: if the loss is no longer a number; the last checkpoint is left as it is.
    """
    progress = _progress(base, trainable, config)
    scheduler = noising_of(base)
    if watch is not None:
        progress.seen = watch.seen
    load_state(scratch / STATE, progress, config)
    if watch is not None:
        watch.begin()
    if training_log is not None:
        training_log.begin(progress)
    try:
        for step in range(len(progress.losses), config.steps):
            if watch is not None and watch.over:
                break
            on_progress("learning", step, config.steps)
            _step(base, progress, seen, config, scheduler)
            if training_log is not None:
                training_log.step(progress, 1 - step / config.steps)
            if watch is not None:
                watch.look(progress)
            done = len(progress.losses)
            if done % save_every == 0 and done < config.steps:
                save_state(scratch / STATE, progress, config)
                _log.debug("step %d of %d: loss %.4f", done, config.steps, progress.losses[-1])
                if training_log is not None:
                    training_log.write(progress)
    finally:
        if training_log is not None:
            training_log.end(progress)
    on_progress("learning", config.steps, config.steps)
    if progress.average is not None:
        progress.average.give(trainable)
    if watch is not None:
        watch.settle(trainable)
    return progress.losses


def _step(
    base: BaseModel,
    progress: TrainingState,
    seen: TrainingSet,
    config: TrainConfig,
    scheduler: Noising,
) -> None:
    """One step of the optimiser, and its loss noted."""
    step, optimizer, scaler = len(progress.losses), progress.optimizer, progress.scaler
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * (1 - step / config.steps)
    generator = torch.Generator().manual_seed((config.seed * 1_000_003 + step) % 2**63)
    optimizer.zero_grad()
    total = 0.0
    for batch in draw_batches(seen, config, generator):
        for part in noised(batch, config, scheduler, generator).parts(config.accumulate):
            total += _pass(base, progress, part, config, scheduler)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    if config.norm_guard is not None:
        progress.trainable.guard(config.norm_guard)
    if progress.average is not None:
        progress.average.update(progress.trainable, step)
    progress.losses.append(total)


def _pass(
    base: BaseModel,
    progress: TrainingState,
    part: Noised,
    config: TrainConfig,
    scheduler: Noising,
) -> float:
    """Send a part of a batch forth and back; its share of the batch's mean loss."""
    trainable, dtype = progress.trainable, config.autocast(base.device)
    recorder = AttentionRecorder(base) if config.attention_reg else None
    lower = nullcontext() if dtype is None else torch.autocast(base.device.type, dtype)
    around = _around(base, trainable, part, lower) if config.masked_prior else None
    with attached(base, trainable.deltas()), _checkpointing(base, config.checkpointing):
        with lower:
            text = encode(base, part.prompts, trainable.tokens())
        # Checkpointing computes the way forth again on the way back: both are inside.
        with attending(base, AttentionContext(text)):
            with lower, recorder.watching() if recorder else nullcontext():
                made = predict(base, part.noisy, part.times, text)
            loss = _loss(base, made, part, config, scheduler)
            if around is not None:
                rows, held = around
                loss += config.masked_prior * _loss(base, made[rows], held, config, scheduler)
            if recorder is not None:
                astray = outside(recorder, trainable.name, part.prompts, part.weights, part.pointed)
                share = len(part.prompts) / config.batch_size
                loss = loss + config.attention_reg * share * astray
            if not math.isfinite(loss.item()):
                raise BrokeDown(
                    f"training `{trainable.name}` broke down at step {len(progress.losses)}: "
                    f"the loss is {loss.item()}",
                    hint=_REMEDY,
                )
            scaler = progress.scaler
            torch.autograd.backward(loss if scaler is None else scaler.scale(loss))
    return loss.item()


def _loss(
    base: BaseModel, made: torch.Tensor, part: Noised, config: TrainConfig, scheduler: Noising
) -> torch.Tensor:
    """What the part's pictures add to the mean over the batch."""
    said = made[:, base.denoised], part.wanted[:, base.denoised]
    losses = picture_losses(*said, part.weights)
    losses = losses * error_weights(scheduler, part.times, config.min_snr_gamma)
    return losses.sum() / config.batch_size


@torch.no_grad()
def _around(
    base: BaseModel,
    trainable: TrainableConcept,
    part: Noised,
    lower: AbstractContextManager[object],
) -> tuple[list[int], Noised] | None:
    """What is to stay as it is outside the masks: what the base makes of it, told the class.

    A concept learnt inside its mask alone leaves what is outside to chance, and every place that
    it is drawn in suffers (OneTrainer's *masked prior preservation*). Pictures that count in full
    have nothing outside.

    Returns:
      which pictures of the part, and these with what is wanted of them; None for none
    """
    rows = [i for i, each in enumerate(part.weights) if each.min() < 1]
    if not rows:
        return None
    said, class_phrase = f"<{trainable.name}>", trainable.class_phrase
    prompts = [with_articles(part.prompts[i].replace(said, class_phrase)) for i in rows]
    noisy, times = part.noisy[rows], part.times[rows]
    with lower:
        text = encode(base, prompts, {})
        with attending(base, AttentionContext(text)):
            made = predict(base, noisy, times, text)
    pointed = [part.pointed[i] for i in rows]
    return rows, Noised(noisy, made, times, 1 - part.weights[rows], prompts, pointed)


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
