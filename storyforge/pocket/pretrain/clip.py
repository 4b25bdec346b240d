"""Stage `clip`: a small CLIP of the world's pictures and captions, for `evaluate`.

It learns from drawings only. Four things pull at it: captions against pictures; two pictures of one
character against those of all others, and once more against near doubles alone, which differ from
it in a single trait; and what is to be seen in the picture. The last one's heads are thrown away.
Features (horns, patterns) occur here in any colour and company, as in an author's characters.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

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
    narrowly,
    save_checkpoint,
    say,
    scatter,
)
from storyforge.pocket.world.brush import distance
from storyforge.pocket.world.looks import (
    ACCESSORIES,
    BUILDS,
    COLOURS,
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

APART = 60.0
"""How far apart two furs have to be, in steps of 256, to be two."""

TRAITS = tuple(name for name in world.EACH if name not in ("side", "view"))
SAVE_EVERY = 300.0

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """One picture, its caption, and the labels of its first subject."""

    picture: Pixels
    caption: str
    labels: tuple[int, ...]


def random_character(generator: np.random.Generator) -> Look:
    """A character as an author might invent it: any fur colour, any features in any colour."""
    look = replace(world.random_look(generator), pose="standing", holding=None)
    if generator.random() < 0.4:
        names = generator.choice(world.FEATURES, int(generator.integers(1, 3)), replace=False)
        look = replace(look, extras=tuple((str(name), _dye(generator)) for name in names))
    if look.species not in PEOPLE and generator.random() < 0.3:
        look = replace(look, fur=_dye(generator))
    return look


def _dye(generator: np.random.Generator) -> str:
    shade = generator.integers(40, 250, 3)
    return "#" + "".join(f"{value:02x}" for value in shade)


NEARLY: Final = ("species", "fur", "garment", "colour", "accessory", "extras", "build")
"""Traits in which near doubles differ."""


def nearly(look: Look, generator: np.random.Generator) -> Look:
    """Another character that differs in one trait."""
    match str(generator.choice(NEARLY)):
        case "species" if look.species not in PEOPLE:
            others = [name for name in SPECIES if name not in (*PEOPLE, look.species)]
            return replace(look, species=str(generator.choice(others)))
        case "fur" if look.species not in PEOPLE:
            was = look.coat_of_fur()
            others = [name for name, dye in FURS.items() if distance(dye, was) > APART]
            return replace(look, fur=str(generator.choice(others)))
        case "garment":
            others = [name for name in GARMENTS if name != look.garment]
            return replace(look, garment=str(generator.choice(others)))
        case "accessory":
            others = [name for name in ACCESSORIES if name != look.accessory]
            return replace(look, accessory=str(generator.choice(others)))
        case "extras":
            return replace(look, extras=_other_extras(look, generator))
        case "build":
            others = [name for name in BUILDS if name != look.build]
            return replace(look, build=str(generator.choice(others)))
    colour = str(generator.choice([name for name in COLOURS if name != look.garment_colour]))
    return replace(look, garment=look.garment or "coat", garment_colour=colour)


def _other_extras(look: Look, generator: np.random.Generator) -> tuple[tuple[str, str], ...]:
    """One feature fewer, or another one instead of the last."""
    kept = look.extras[:-1]
    if look.extras and generator.random() < 0.5:
        return kept
    had = {name for name, _ in look.extras}
    other = str(generator.choice([name for name in world.FEATURES if name not in had]))
    return (*kept, (other, _dye(generator)))


def view(look: Look, generator: np.random.Generator) -> View:
    """The character somewhere, doing something; mostly cut out with a little of its surroundings.

    Sometimes somebody else stands beside it, outside the crop or just in it.
    """
    pose = str(generator.choice([pose for pose in POSES if pose != "holding"]))
    acting = replace(look, pose=pose, mirror=bool(generator.random() < 0.5))
    around = world.imagine(generator)
    x, size = float(generator.uniform(0.2, 0.8)), float(generator.uniform(0.45, 0.8))
    subject = world.Subject(acting, x, float(generator.uniform(0.84, 0.94)), size)
    beside: tuple[world.Subject, ...] = ()
    if generator.random() < 0.3:
        other = world.random_look(generator)
        beside = (world.Subject(other, (x + 0.5) % 1.0, 0.9, 0.5),)
    picture = replace(around, subjects=(subject, *beside))
    drawn, masks = world.draw(picture, DRAWN)
    labels = tuple(world.labels(picture)[f"{name}0"] for name in TRAITS)
    if generator.random() < 0.3:
        return View(_fitted(drawn), world.describe(picture, generator), labels)
    return View(_cut(drawn, masks[0], generator), world.look_words(generator, acting), labels)


def scenery(generator: np.random.Generator) -> View:
    """A whole picture of the world with its caption."""
    picture = world.imagine(generator)
    drawn, _ = world.draw(picture, DRAWN)
    labels = world.labels(picture)
    seen = tuple(labels[f"{name}0"] for name in TRAITS)
    return View(_fitted(drawn), world.describe(picture, generator), seen)


def _fitted(picture: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX))


def _cut(picture: Pixels, mask: Pixels, generator: np.random.Generator) -> Pixels:
    """A square around what the mask shows, a little too large and off its centre."""
    rows, columns = np.nonzero(mask > 127)
    if len(rows) == 0:
        return _fitted(picture)
    y, x = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    half = 0.5 * max(np.ptp(rows), np.ptp(columns)) * float(generator.uniform(1.0, 1.4)) + 2
    x, y = (
        x + half * float(generator.uniform(-0.15, 0.15)),
        y + half * float(generator.uniform(-0.15, 0.15)),
    )
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


DOUBLES: Final = 2
"""Near doubles of every character in a batch."""

GROUP: Final = 3 + DOUBLES
"""Views that belong to one character: two of it, its near doubles, and one whole picture."""


def _groups(count: int, generator: np.random.Generator) -> tuple[list[View], torch.Tensor]:
    """`count` characters: two views of each and those of its near doubles; then whole pictures.

    The second value numbers the characters, (n,); every whole picture has a number of its own.
    """
    views: list[View] = []
    who: list[int] = []
    for index in range(count):
        look = random_character(generator)
        others = [nearly(look, generator) for _ in range(DOUBLES)]
        views += [view(seen, generator) for seen in (look, look, *others)] + [scenery(generator)]
        first = GROUP * index
        who += [first, first, *range(first + 1, first + GROUP - 1)]
    return views, torch.tensor(who)


def _double_loss(features: torch.Tensor) -> torch.Tensor:
    """Each view of a character shall be nearer to its other view than to any near double.

    features  (count · GROUP, d)  unit vectors, as `_groups` lays them out
    """
    groups = features.view(-1, GROUP, features.shape[-1])
    one, two, doubles = groups[:, 0], groups[:, 1], groups[:, 2 : 2 + DOUBLES]
    same = (one * two).sum(-1, keepdim=True)
    rows = [torch.cat([same, torch.einsum("nd,nkd->nk", x, doubles)], 1) for x in (one, two)]
    logits = torch.cat(rows) / 0.07
    return -logits.log_softmax(1)[:, 0].mean()


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
        generator = np.random.default_rng((job.seed, 5, team.rank, step))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * clock.factor(spent)
        loss, parts_of_it = _loss(clip, traits, tokenizer, *_groups(job.batch_size, generator))
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
    with narrowly(clip.device.type):
        seen = features_of(clip, pixel_values([v.picture for v in views]))
        said = words_of(clip, tokenizer, [v.caption for v in views])
    logits = clip.logit_scale.exp().clamp(max=100) * seen @ said.T
    right = torch.arange(len(views), device=clip.device)
    # Two views of one character may well have the same caption: neither is wrong for the other.
    twins = (who[:, None] == who[None]) & ~torch.eye(len(who), dtype=torch.bool, device=who.device)
    logits = logits.masked_fill(twins, -1e4)
    match = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    same, seen_as = _identity_loss(seen, who), traits(8 * seen, labels)
    double = _double_loss(seen)
    figures = {"match": match, "same": same, "double": double, "traits": seen_as}
    loss = match + 0.5 * same + double + 0.5 * seen_as
    return loss, {name: value.item() for name, value in figures.items()}


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
