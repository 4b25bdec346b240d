"""Stage `clip`: a small CLIP of the world's pictures and captions, for `evaluate`.

It learns from drawings only. Three things pull at it: captions against pictures, two pictures of
one character against pictures of others that differ from it in a single trait, and what is to be
seen in the picture. The last one's heads are thrown away. Features
(horns, patterns) occur here in any colour and together: an author's characters have them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

from storyforge.pocket import world
from storyforge.pocket.pretrain import parts
from storyforge.pocket.pretrain.run import (
    Average,
    Clock,
    Job,
    Team,
    load_checkpoint,
    save_checkpoint,
    say,
    scatter,
)
from storyforge.pocket.world.looks import (
    ACCESSORIES,
    COLOURS,
    FEATURES,
    FURS,
    GARMENTS,
    PEOPLE,
    POSES,
    SPECIES,
    Look,
)

SIDE = 128
PATCH = 16
WIDTH = 160
LAYERS = 6
PROJECTION = 128
MEAN = (0.5, 0.5, 0.5)
"""Of each channel, for pixels in [0, 1]; the spread is the same."""

DRAWN = 192
"""Pixels a side of the drawings that crops are cut from."""

TRAITS = ("kind", "colour", "fur", "accessory", "pose")
SAVE_EVERY = 300.0

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """One picture, its caption, and the labels of its first subject."""

    picture: Pixels
    caption: str
    labels: tuple[int, ...]


def random_character(dice: np.random.Generator) -> Look:
    """A character as an author might invent it: any fur colour, some with horns or patterns."""
    look = replace(world.random_look(dice), pose="standing", holding=None)
    if dice.random() < 0.5:
        names = dice.choice(FEATURES, int(dice.integers(1, 3)), replace=False)
        look = replace(look, extras=tuple((str(name), _dye(dice)) for name in names))
    if look.species not in PEOPLE and dice.random() < 0.3:
        look = replace(look, fur=_dye(dice))
    return look


def _dye(dice: np.random.Generator) -> str:
    shade = dice.integers(40, 250, 3)
    return "#" + "".join(f"{value:02x}" for value in shade)


def nearly(look: Look, dice: np.random.Generator) -> Look:
    """Another character that differs in one trait."""
    trait = dice.choice(["species", "fur", "garment", "colour", "accessory", "extras"])
    if trait == "species" and look.species not in PEOPLE:
        others = [name for name in SPECIES if name not in (*PEOPLE, look.species)]
        return replace(look, species=str(dice.choice(others)))
    if trait == "fur" and look.species not in PEOPLE:
        return replace(look, fur=str(dice.choice([f for f in FURS if f != look.fur])))
    if trait == "garment":
        others = [g for g in GARMENTS if g != look.garment]
        return replace(look, garment=str(dice.choice(others)))
    if trait == "accessory":
        others = [a for a in ACCESSORIES if a != look.accessory]
        return replace(look, accessory=str(dice.choice(others)))
    if trait == "extras":
        return replace(
            look, extras=() if look.extras else ((str(dice.choice(FEATURES)), _dye(dice)),)
        )
    others = [c for c in COLOURS if c != look.garment_colour]
    return replace(look, garment=look.garment or "coat", garment_colour=str(dice.choice(others)))


def view(look: Look, dice: np.random.Generator) -> View:
    """The character somewhere, doing something; mostly cut out with a little of its surroundings.

    Sometimes somebody else stands beside it, outside the crop or just in it.
    """
    pose = str(dice.choice([pose for pose in POSES if pose != "holding"]))
    acting = replace(look, pose=pose, mirror=bool(dice.random() < 0.5))
    around = world.imagine(dice)
    x, size = float(dice.uniform(0.2, 0.8)), float(dice.uniform(0.45, 0.8))
    subject = world.Subject(acting, x, float(dice.uniform(0.84, 0.94)), size)
    beside: tuple[world.Subject, ...] = ()
    if dice.random() < 0.3:
        other = world.random_look(dice)
        beside = (world.Subject(other, (x + 0.5) % 1.0, 0.9, 0.5),)
    picture = replace(around, subjects=(subject, *beside))
    drawn, masks = world.draw(picture, DRAWN)
    labels = tuple(world.labels(picture)[f"{name}0"] for name in TRAITS) if _named(look) else ()
    if dice.random() < 0.3:
        return View(_fitted(drawn), world.describe(_sayable(picture), dice), labels or _unasked())
    caption = world.look_words(dice, _sayable_look(acting))
    return View(_cut(drawn, masks[0], dice), caption, labels or _unasked())


def scenery(dice: np.random.Generator) -> View:
    """A whole picture of the world with its caption."""
    picture = world.imagine(dice)
    drawn, _ = world.draw(picture, DRAWN)
    labels = world.labels(picture)
    return View(
        _fitted(drawn), world.describe(picture, dice), tuple(labels[f"{name}0"] for name in TRAITS)
    )


def _named(look: Look) -> bool:
    return not look.fur.startswith("#")


def _unasked() -> tuple[int, ...]:
    return (-1,) * len(TRAITS)


def _sayable_look(look: Look) -> Look:
    """The same with a fur colour that has a name, so that it can be put into words."""
    return look if _named(look) else replace(look, fur=SPECIES[look.species].fur)


def _sayable(picture: world.Picture) -> world.Picture:
    first, *rest = picture.subjects
    assert isinstance(first.what, Look)
    return replace(picture, subjects=(replace(first, what=_sayable_look(first.what)), *rest))


def _fitted(picture: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX))


def _cut(picture: Pixels, mask: Pixels, dice: np.random.Generator) -> Pixels:
    """A square around what the mask shows, a little too large and off its centre."""
    rows, columns = np.nonzero(mask > 127)
    if len(rows) == 0:
        return _fitted(picture)
    y, x = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    half = 0.5 * max(np.ptp(rows), np.ptp(columns)) * float(dice.uniform(1.0, 1.4)) + 2
    x, y = x + half * float(dice.uniform(-0.15, 0.15)), y + half * float(dice.uniform(-0.15, 0.15))
    box = (int(x - half), int(y - half), int(x + half), int(y + half))
    inside = (max(0, box[0]), max(0, box[1]), min(DRAWN, box[2]), min(DRAWN, box[3]))
    cut = Image.fromarray(picture).crop(inside)
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def new_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A `CLIPModel` whose text half starts as the embedded model's text encoder."""
    text = CLIPTextModel.from_pretrained(
        parts.weights_folder() / "text_encoder", dtype=torch.float32
    )
    config = CLIPConfig(
        text_config=text.config.to_dict(),
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": WIDTH // 32,
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        projection_dim=PROJECTION,
    )
    clip = CLIPModel(config)
    clip.text_model.load_state_dict(text.state_dict())
    return clip


def go_on_from(clip: CLIPModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Take over what another CLIP of this shape has learnt; words that it lacks keep their rows."""
    state = clip.state_dict()
    for name, value in weights.items():
        if value.dim() == 0:
            state[name].copy_(value)
        elif name in state:
            state[name][: len(value)] = value.to(state[name].dtype)
    clip.load_state_dict(state)


class Traits(nn.Module):
    """Linear heads on picture features: what is to be seen, as a help in training."""

    def __init__(self) -> None:
        """One head per trait of the first subject."""
        super().__init__()
        self.heads = nn.ModuleList(
            [nn.Linear(PROJECTION, len(world.LABELS[f"{name}0"])) for name in TRAITS]
        )

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of (n, d) features on (n, traits) classes, −1 where unknown."""
        losses = [
            F.cross_entropy(head(features), labels[:, i], ignore_index=-1, reduction="sum")
            / max(1, int((labels[:, i] >= 0).sum()))
            for i, head in enumerate(self.heads)
        ]
        return torch.stack(losses).mean()


def pixel_values(pictures: list[Pixels]) -> torch.Tensor:
    """(n, 3, 128, 128), normalised."""
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return (pixels - 0.5) / 0.5


def features_of(clip: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """(n, d) unit vectors of pictures."""
    pooled = clip.vision_model(pixel_values=pixels.to(clip.device)).pooler_output
    made: torch.Tensor = F.normalize(clip.visual_projection(pooled).float(), dim=-1)
    return made


def words_of(clip: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """(n, d) unit vectors of captions."""
    ids = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(clip.device)
    pooled = clip.text_model(ids.input_ids, attention_mask=ids.attention_mask).pooler_output
    made: torch.Tensor = F.normalize(clip.text_projection(pooled).float(), dim=-1)
    return made


def _groups(count: int, dice: np.random.Generator) -> tuple[list[View], torch.Tensor]:
    """`count` characters: two views of each and one of its near double; whole pictures between.

    The second value numbers the characters, (n,); every whole picture has a number of its own.
    """
    views: list[View] = []
    who: list[int] = []
    for index in range(count):
        look = random_character(dice)
        views += [view(look, dice), view(look, dice), view(nearly(look, dice), dice), scenery(dice)]
        who += [4 * index, 4 * index, 4 * index + 1, 4 * index + 2]
    return views, torch.tensor(who)


def _identity_loss(features: torch.Tensor, who: torch.Tensor) -> torch.Tensor:
    """Pictures of one character shall be nearest to each other (supervised contrastive)."""
    logits = features @ features.T / 0.07
    logits.fill_diagonal_(-1e4)
    same = (who[:, None] == who[None]) & ~torch.eye(len(who), dtype=torch.bool, device=who.device)
    rows = same.any(1)
    return -(logits.log_softmax(1)[same]).mean() if rows.any() else logits.sum() * 0


def train_clip(job: Job, team: Team) -> None:
    """Train, or go on from the checkpoint; write `<folder>/clip` in fp16."""
    torch.manual_seed(job.seed)
    tokenizer = CLIPTokenizer.from_pretrained(parts.weights_folder() / "tokenizer")
    clip, traits = new_clip(tokenizer).to(job.device), Traits().to(job.device)
    shipped = parts.clip_folder()
    if shipped.is_dir():
        go_on_from(clip, load_file(shipped / "model.safetensors"))
    modules: dict[str, nn.Module] = {"clip": clip, "traits": traits}
    parameters = [*clip.parameters(), *traits.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98))
    average = Average(clip, 0.998)
    path = job.folder / "clip.safetensors"
    step = int(load_checkpoint(path, modules, {"clip": average}, optimizer).get("step", 0))
    scatter(job, team, step)
    clock, saved = Clock(job, 100), 0.0
    while (spent := team.agree(clock.spent())) < 1:
        step += 1
        dice = np.random.default_rng((job.seed, 5, team.rank, step))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * clock.factor(spent)
        loss, parts_of_it = _loss(clip, traits, tokenizer, *_groups(job.batch_size, dice))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        team.average(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(clip)
        if team.rank == 0 and step % 50 == 0:
            say(job, step=step, spent=spent, **parts_of_it)
        if team.rank == 0 and spent * job.minutes * 60 - saved > SAVE_EVERY:
            saved = spent * job.minutes * 60
            save_checkpoint(path, modules, {"clip": average}, optimizer, {"step": step})
    if team.rank == 0:
        save_checkpoint(path, modules, {"clip": average}, optimizer, {"step": step})
        clip.load_state_dict(average.values)
        write_clip(clip, job.folder / "clip")


def _loss(
    clip: CLIPModel,
    traits: Traits,
    tokenizer: CLIPTokenizer,
    views: list[View],
    who: torch.Tensor,
) -> tuple[torch.Tensor, dict[str, float]]:
    labels, who = torch.tensor([v.labels for v in views], device=clip.device), who.to(clip.device)
    with torch.autocast(clip.device.type, torch.bfloat16):
        seen = features_of(clip, pixel_values([v.picture for v in views]))
        said = words_of(clip, tokenizer, [v.caption for v in views])
    logits = clip.logit_scale.exp().clamp(max=100) * seen @ said.T
    right = torch.arange(len(views), device=clip.device)
    # Two views of one character may well have the same caption: neither is wrong for the other.
    twins = (who[:, None] == who[None]) & ~torch.eye(len(who), dtype=torch.bool, device=who.device)
    logits = logits.masked_fill(twins, -1e4)
    match = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    same, seen_as = _identity_loss(seen, who), traits(8 * seen, labels)
    figures = {"match": match.item(), "same": same.item(), "traits": seen_as.item()}
    return match + 0.5 * same + 0.5 * seen_as, figures


def write_clip(clip: CLIPModel, folder: Path) -> None:
    """Write model, tokenizer and picture settings as `CLIPModel.from_pretrained` wants them."""
    clip.config.text_config.name_or_path = ""  # where the text encoder's weights began
    clip.half().save_pretrained(folder)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(parts.weights_folder() / "tokenizer" / name, folder / name)
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(MEAN),
        "image_std": list(MEAN),
        "resample": int(Image.Resampling.BILINEAR),
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": SIDE},
    }
    text = json.dumps(settings, indent=1) + "\n"
    (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")
