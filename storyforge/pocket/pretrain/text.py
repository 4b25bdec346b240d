"""Stages `words` and `text`: the text encoder learns what captions mean, before there are pictures.

A caption's features are to tell all that its drawing's latents tell, colours of what is small
included: which colour word belongs to which bow takes a U-Net hours to find out, and a text encoder
minutes.
"""

from typing import Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from storyforge.pocket import world
from storyforge.pocket.pretrain import parts
from storyforge.pocket.pretrain.run import Clock, Job, Team, at_rate, narrowly, say
from storyforge.pocket.pretrain.tokenizer import grow_text_encoder, grow_tokenizer

OWN: Final = world.PLACE_OF["size"].start
"""The numbers before are of single cells."""
SLOTS: Final = world.SLOTS + 1
"""Subjects, from left to right, then the place."""
LEAST_SPREAD: Final = 0.15
"""Errors count by one over the spread of a number, or by one over this."""
RATE, HEAD_RATE = 1e-3, 2e-3
HEADS_OF_ATTENTION: Final = 5
KEPT: Final = 1.0
"""How much it counts that what a U-Net listens to stays as it is."""


class MeaningHeads(nn.Module):
    """Read off a caption's features what its drawing tells of each subject and of the place.

    It is read off all of them, and off those of every token of the end by nothing but a matrix:
    what is said there each cell of a U-Net hears with the least to learn.
    """

    def __init__(self, width: int) -> None:
        """`width` of the features."""
        super().__init__()
        self.asked = nn.Parameter(torch.randn(SLOTS, width))
        self.attention = nn.MultiheadAttention(width, HEADS_OF_ATTENTION, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, world.MEANINGS - OWN)
        )
        self.ends = nn.Linear(width, SLOTS * (world.MEANINGS - OWN))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(b, t, width) to (b, slots, meanings)."""
        asked = self.asked.expand(len(features), -1, -1)
        found, _ = self.attention(asked, features, features, need_weights=False)
        made: torch.Tensor = self.out(self.norm(found + asked))
        return made

    def lack(
        self, features: torch.Tensor, ends: torch.Tensor, told: torch.Tensor, there: torch.Tensor
    ) -> torch.Tensor:
        """Mean squared error by what there is of each number, of what is there.

        ends   (b, t) of bool
        told   (b, slots, meanings)
        there  (b, slots) of 0 and 1
        """
        caption = ends.nonzero()[:, 0]
        said = self.ends(features[ends]).unflatten(-1, (SLOTS, -1))
        found = _lack(self(features), told, there) + _lack(said, told[caption], there[caption])
        return found / 2


def _lack(made: torch.Tensor, told: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    counts = there[..., None] / there.sum()
    spread = (told.square() * counts).sum((0, 1)).clamp(min=LEAST_SPREAD**2)
    error = (made.float() - told).square() / spread
    lack: torch.Tensor = (error * counts).sum() / told.shape[-1]
    return lack


def meant(pictures: list[world.Picture]) -> tuple[torch.Tensor, torch.Tensor]:
    """(b, slots, meanings) what pictures tell of their subjects and of the place, and (b, slots)
    what of these is there."""
    told = np.zeros((len(pictures), SLOTS, world.MEANINGS - OWN), np.float32)
    there = np.zeros((len(pictures), SLOTS), np.float32)
    for index, picture in enumerate(pictures):
        *subjects, place = world.told_of(picture)
        for slot, known in [*enumerate(subjects[: world.SLOTS]), (world.SLOTS, place)]:
            told[index, slot], there[index, slot] = known[OWN:], 1
    return torch.from_numpy(told), torch.from_numpy(there)


def captions(pictures: list[world.Picture], generator: np.random.Generator) -> list[str]:
    """Fresh words for each picture."""
    return [world.describe(picture, generator) for picture in pictures]


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """(n, 77) ids, padded as the model was trained."""
    ids: torch.Tensor = tokenizer(
        texts,
        padding="max_length",
        max_length=parts.POSITIONS,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return ids


def ends_of(tokenizer: CLIPTokenizer, ids: torch.Tensor) -> torch.Tensor:
    """(n, 77) of bool: the end of the text, and all that follows."""
    found: torch.Tensor = ids == tokenizer.eos_token_id
    return found


def learn_words(job: Job, team: Team) -> None:
    """Stage `words`: let tokenizer and text encoder take in what the world says now."""
    before = CLIPTokenizer.from_pretrained(parts.part_folder(job.folder, "tokenizer"))
    text = CLIPTextModel.from_pretrained(
        parts.part_folder(job.folder, "text_encoder"), dtype=torch.float32
    )
    after = grow_tokenizer(job.folder / "tokenizer", parts.part_folder(job.folder, "tokenizer"))
    grow_text_encoder(text, before, after).save_pretrained(job.folder / "text_encoder")
    say(job, known=len(before), words=len(after))


def text_encoder_of(job: Job) -> CLIPTextModel:
    """What this run trained, else what the package ships; on a CPU plain attention is faster."""
    text = CLIPTextModel.from_pretrained(
        parts.part_folder(job.folder, "text_encoder"),
        dtype=torch.float32,
        attn_implementation="eager" if job.device == "cpu" else "sdpa",
    )
    return text.to(job.device)


def tokenizer_of(job: Job) -> CLIPTokenizer:
    """What this run grew, else what earlier ones did."""
    return CLIPTokenizer.from_pretrained(parts.part_folder(job.folder, "tokenizer"))


def train_text(job: Job, team: Team) -> None:
    """Teach the text encoder what captions mean: minutes that save hours of diffusion."""
    torch.manual_seed(job.seed)
    tokenizer, text = tokenizer_of(job), text_encoder_of(job)
    heads = MeaningHeads(parts.TEXT_WIDTH).to(job.device)
    parts.take_over(heads, parts.part_folder(job.folder, "heads.safetensors"))
    # What a U-Net listens to stays as it is, but for what the end says.
    heard = text_encoder_of(job).eval() if (job.folder / "unet.safetensors").is_file() else None
    groups = [
        {"params": [*text.parameters()], "base": RATE},
        {"params": [*heads.parameters()], "base": HEAD_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.01)
    parameters = [*text.parameters(), *heads.parameters()]
    clock, step = Clock(job, 50), 0
    while (spent := team.agree(clock.spent())) < 1:
        step += 1
        generator = np.random.default_rng((job.seed, 1, team.rank, step))
        pictures = [world.imagine(generator) for _ in range(job.batch_size)]
        ids = token_ids(tokenizer, captions(pictures, generator)).to(job.device)
        at_rate(clock.factor(spent), optimizer)
        with narrowly(job.device):
            features = text(ids).last_hidden_state
        ends = ends_of(tokenizer, ids)
        loss = heads.lack(features, ends, *(each.to(job.device) for each in meant(pictures)))
        if heard is not None:
            with torch.no_grad():
                before = heard(ids).last_hidden_state
            loss = loss + KEPT * (features - before)[~ends].float().square().mean()
        torch.autograd.backward(loss)
        team.average(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if team.rank == 0 and step % 50 == 0:
            say(job, step=step, spent=spent, loss=loss.item())
    if team.rank == 0:
        text.save_pretrained(job.folder / "text_encoder")
        save_file(heads.state_dict(), job.folder / "heads.safetensors")
