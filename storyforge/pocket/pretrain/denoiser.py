"""Stages `text` and `unet`: the text encoder on attribute labels, then both on pictures."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

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
from storyforge.pocket.pretrain.tokenizer import build_tokenizer
from storyforge.pocket.pretrain.vae import drawings

CAPTION_DROPOUT = 0.1
LABEL_LOSS = 0.4
SUBJECT_WEIGHT = 3.0
"""How much more a cell counts where a subject is: backgrounds are learnt early."""
LOOK_EVERY = 900.0
WORTH_A_LOOK = 1.0
"""Minutes; a sheet of pictures takes longer to draw than a shorter run."""
PROMPTS = (
    "a fox in a red coat waving on the left, in a forest at night",
    "a penguin in a yellow shirt in the middle, on a beach",
    "a boy in a green jacket sitting in the middle in a library",
    "a blue cat wearing a crown, in the snow",
    "an elephant and a red ball, in a bedroom",
    "a purple mushroom in the middle of a meadow at sunset",
    "a frog in an orange shirt on the left and an owl in a blue coat on the right, in a town",
    "a red house on the right, in the mountains",
    "a girl in a pink dress jumping by the pond",
    "a panda holding a yellow balloon, in the desert at night",
    "a rabbit with a teal scarf running, in the rain, in a meadow",
    "a bear, by the sea",
)


class WideAttention:
    """Attention with its scores in float32: in bfloat16 its backward pass is slow on CPUs."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(b, n, d) to (b, n, d)."""
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            linear(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2).float()
            for linear, x in ((attn.to_q, hidden_states), (attn.to_k, seen), (attn.to_v, seen))
        )
        with torch.autocast(q.device.type, enabled=False):
            made = F.scaled_dot_product_attention(q, k, v)
        result: torch.Tensor = attn.to_out[0](made.transpose(1, 2).flatten(2))
        return result


class LabelHeads(nn.Module):
    """Linear heads on the mean and the end of a caption's features: what is in the picture?"""

    def __init__(self, width: int) -> None:
        """One head per entry of `world.LABELS`."""
        super().__init__()
        self.heads = nn.ModuleDict(
            {k: nn.Linear(2 * width, len(v)) for k, v in world.LABELS.items()}
        )

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Mean cross-entropy and accuracy over the labels that apply.

        features  (b, t, d)
        labels    (b, heads)  class, or −1
        """
        pooled = torch.cat([features.mean(1), features[:, -1]], -1).float()
        losses, right, asked = [], 0, 0
        for index, head in enumerate(self.heads.values()):
            wanted = labels[:, index]
            if (wanted < 0).all():
                continue
            logits = head(pooled)
            losses.append(F.cross_entropy(logits, wanted, ignore_index=-1))
            right += int(((logits.argmax(-1) == wanted) & (wanted >= 0)).sum())
            asked += int((wanted >= 0).sum())
        return torch.stack(losses).mean(), right / max(1, asked)


def captions(
    pictures: list[world.Picture], dice: np.random.Generator
) -> tuple[list[str], torch.Tensor]:
    """Fresh words for each picture, and its labels (n, heads)."""
    rows = [list(world.labels(p).values()) for p in pictures]
    return [world.describe(p, dice) for p in pictures], torch.tensor(rows)


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


def _tokenizer(job: Job, team: Team) -> CLIPTokenizer:
    folder = parts.part_folder(job.folder, "tokenizer")
    if team.rank == 0 and not folder.is_dir():
        build_tokenizer(job.folder / "tokenizer")
    team.agree(0)
    return CLIPTokenizer.from_pretrained(parts.part_folder(job.folder, "tokenizer"))


def train_text(job: Job, team: Team) -> None:
    """Warm the text encoder up on labels: minutes that save an hour of diffusion."""
    torch.manual_seed(job.seed)
    tokenizer = _tokenizer(job, team)
    text = parts.new_text_encoder(tokenizer).to(job.device)
    heads = LabelHeads(parts.TEXT_WIDTH).to(job.device)
    parameters = [*text.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    clock, step = Clock(job, 50), 0
    while (spent := team.agree(clock.spent())) < 1:
        step += 1
        dice = np.random.default_rng((job.seed, 1, team.rank, step))
        texts, labels = captions([world.imagine(dice) for _ in range(job.batch_size)], dice)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * clock.factor(spent)
        with torch.autocast(job.device, torch.bfloat16):
            features = text(token_ids(tokenizer, texts).to(job.device)).last_hidden_state
        loss, accuracy = heads(features, labels.to(job.device))
        optimizer.zero_grad()
        loss.backward()
        team.average(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if team.rank == 0 and step % 50 == 0:
            say(job, step=step, loss=loss.item(), accuracy=accuracy)
    if team.rank == 0:
        text.save_pretrained(job.folder / "text_encoder")
        save_file(heads.state_dict(), job.folder / "heads.safetensors")


class Latents:
    """Drawings kept as latents, with what is seen in each; this worker's share of them.

    values    (n, c, h, w) float16
    cover     (n, 1, h, w) in [0, 1], where any subject is
    pictures  what was drawn
    """

    def __init__(self, job: Job, team: Team) -> None:
        """Encode what is missing in `<folder>/latents-<rank>-of-<size>.safetensors`."""
        seeds = list(range(10**6 + team.rank, 10**6 + job.pictures, team.size))
        self.pictures = [world.imagine(np.random.default_rng(seed)) for seed in seeds]
        path = job.folder / f"latents-{team.rank}-of-{team.size}.safetensors"
        kept = load_file(path) if path.is_file() else {}
        self.values = _encoded(job, seeds, kept.get("latents", torch.zeros(0)))
        cells = self.values.shape[-1]
        covers = [_cover(p, cells) for p in self.pictures[len(kept.get("cover", ())) :]]
        known = [kept["cover"]] if "cover" in kept else []
        self.cover = torch.cat([*known, *covers])[: len(seeds)]
        save_file({"latents": self.values, "cover": self.cover.contiguous()}, path)
        crowd = np.array([len(p.subjects) for p in self.pictures])
        odds = np.array([0.0, 1.5, 1.0, 0.4, 0.2])[crowd]
        self.odds = odds / odds.sum()

    def batches(self, size: int, dice: np.random.Generator) -> Iterator[np.ndarray]:
        """Endless random rows, `size` at a time; pictures of one or two subjects come most."""
        while True:
            yield dice.choice(len(self.pictures), size, p=self.odds)


def _encoded(job: Job, seeds: list[int], kept: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) latents of the drawings of `seeds`, the first of which are in `kept`."""
    if len(kept) >= len(seeds):
        return kept[: len(seeds)].contiguous()
    vae = AutoencoderKL.from_pretrained(
        parts.part_folder(job.folder, "vae"), dtype=torch.float32
    ).to(job.device)
    made = [kept] if len(kept) else []
    for start in range(len(kept), len(seeds), 8):
        with torch.no_grad(), torch.autocast(job.device, torch.bfloat16):
            batch = vae.encode(drawings(seeds[start : start + 8], job.device)).latent_dist.mean
        made.append(batch.half().cpu())
    return torch.cat(made).contiguous()


def _cover(picture: world.Picture, cells: int) -> torch.Tensor:
    """(1, 1, cells, cells) in [0, 1]: the share of each latent cell that subjects cover."""
    masks = torch.from_numpy(world.draw(picture)[1]).float().amax(0) / 255
    return F.adaptive_avg_pool2d(masks[None, None], cells)


class Denoiser:
    """Text encoder, U-Net and label heads in training, with their averages and optimiser."""

    def __init__(self, job: Job, team: Team) -> None:
        """Go on from the checkpoint, else start from what was trained or shipped."""
        self.job, self.team = job, team
        self.tokenizer, self.scheduler = _tokenizer(job, team), parts.new_scheduler()
        self.text = CLIPTextModel.from_pretrained(
            parts.part_folder(job.folder, "text_encoder"),
            dtype=torch.float32,
            attn_implementation="eager" if job.device == "cpu" else "sdpa",
        ).to(job.device)
        self.unet, self.heads = _unet().to(job.device), LabelHeads(parts.TEXT_WIDTH).to(job.device)
        if job.device == "cpu":
            self.unet.set_attn_processor(WideAttention())
        if (job.folder / "heads.safetensors").is_file():
            self.heads.load_state_dict(load_file(job.folder / "heads.safetensors"))
        self.modules: dict[str, nn.Module] = {
            "unet": self.unet,
            "text": self.text,
            "heads": self.heads,
        }
        self.averages = {name: Average(self.modules[name], 0.998) for name in ("unet", "text")}
        self.parameters = [p for module in self.modules.values() for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(self.unet.parameters()), "base": 8e-4},
                {"params": [*self.text.parameters(), *self.heads.parameters()], "base": 4e-4},
            ],
            lr=0.0,
            weight_decay=0.01,
            betas=(0.9, 0.99),
        )
        self.path = job.folder / "unet.safetensors"
        progress = load_checkpoint(self.path, self.modules, self.averages, self.optimizer)
        self.step, self.samples = int(progress.get("step", 0)), int(progress.get("samples", 0))

    def learn(self, latents: Latents, row: np.ndarray, factor: float) -> float:
        """One step on these drawings at `factor` of the peak learning rate; the diffusion loss."""
        device = self.job.device
        self.step += 1
        self.samples += len(row) * self.team.size
        dice = np.random.default_rng((self.job.seed, 3, self.team.rank, self.step))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        texts, labels = captions([latents.pictures[i] for i in row], dice)
        texts = ["" if dice.random() < CAPTION_DROPOUT else t for t in texts]
        clean = latents.values[row].float().to(device)
        with torch.autocast(device, torch.bfloat16):
            features = self.text(token_ids(self.tokenizer, texts).to(device)).last_hidden_state
            cover = latents.cover[row].to(device)
            loss = _diffusion_loss(self.unet, self.scheduler, clean, cover, features, dice)
        label_loss, _ = self.heads(features, labels.to(device))
        self.optimizer.zero_grad()
        torch.autograd.backward(loss + LABEL_LOSS * label_loss)
        self.team.average(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        for name, average in self.averages.items():
            average.update(self.modules[name])
        return loss.item()

    def keep(self) -> None:
        """Write the checkpoint, the pipeline and a sheet of pictures for the eye."""
        progress: dict[str, float] = {"step": self.step, "samples": self.samples}
        save_checkpoint(self.path, self.modules, self.averages, self.optimizer, progress)
        assemble(self.job.folder, self.averages, self.tokenizer)
        if self.job.minutes >= WORTH_A_LOOK:
            look(self.job.folder / "pipeline", self.job.folder / f"look-{self.samples:07d}.png")


def train_unet(job: Job, team: Team) -> None:
    """Text encoder and U-Net together, v-prediction."""
    torch.manual_seed(job.seed)
    denoiser = Denoiser(job, team)
    latents = Latents(job, team)
    scatter(job, team, denoiser.step)
    dice = np.random.default_rng((job.seed, 2, team.rank, denoiser.step))
    rows = latents.batches(job.batch_size, dice)
    clock, looked, recent = Clock(job, 50), 0.0, 0.0
    while (spent := team.agree(clock.spent())) < 1:
        loss = denoiser.learn(latents, next(rows), clock.factor(spent))
        recent = loss if recent == 0 else 0.98 * recent + 0.02 * loss
        if team.rank == 0 and denoiser.step % 50 == 0:
            say(job, step=denoiser.step, samples=denoiser.samples, spent=spent, loss=recent)
        if team.rank == 0 and spent * job.minutes * 60 - looked > LOOK_EVERY:
            looked = spent * job.minutes * 60
            denoiser.keep()
    if team.rank == 0:
        denoiser.keep()


def _unet() -> UNet2DConditionModel:
    """The shipped U-Net if it is of today's shape, else a new one."""
    unet, shipped = parts.new_unet(), parts.weights_folder() / "unet"
    if shipped.is_dir():
        weights = load_file(shipped / "diffusion_pytorch_model.safetensors")
        if {k: v.shape for k, v in weights.items()} == {
            k: v.shape for k, v in unet.state_dict().items()
        }:
            unet.load_state_dict({k: v.float() for k, v in weights.items()})
    return unet


def _diffusion_loss(
    unet: nn.Module,
    scheduler: DDIMScheduler,
    clean: torch.Tensor,
    cover: torch.Tensor,
    features: torch.Tensor,
    dice: np.random.Generator,
) -> torch.Tensor:
    noise = torch.randn_like(clean)
    steps = torch.from_numpy(dice.integers(0, scheduler.config.num_train_timesteps, len(clean)))
    steps = steps.to(clean.device)
    noisy = scheduler.add_noise(clean, noise, steps)
    wanted = scheduler.get_velocity(clean, noise, steps)
    made = unet(noisy, steps, features).sample
    weight = 1 + SUBJECT_WEIGHT * cover
    error = (made.float() - wanted).square() * weight
    loss: torch.Tensor = error.mean() / weight.mean()
    return loss


def assemble(folder: Path, averages: dict[str, Average], tokenizer: CLIPTokenizer) -> None:
    """Write `<folder>/pipeline` in fp16, in the layout of `StableDiffusionPipeline`."""
    text, unet = parts.new_text_encoder(tokenizer), parts.new_unet()
    text.load_state_dict(averages["text"].values)
    unet.load_state_dict(averages["unet"].values)
    vae = AutoencoderKL.from_pretrained(parts.part_folder(folder, "vae"), dtype=torch.float32)
    pipe = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text.half(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=parts.new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder / "pipeline")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(
            parts.part_folder(folder, "tokenizer") / name, folder / "pipeline" / "tokenizer" / name
        )


def look(pipeline: Path, out: Path) -> None:
    """A sheet of the pictures of `PROMPTS`, for the eye."""
    pipe = StableDiffusionPipeline.from_pretrained(pipeline, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        list(PROMPTS),
        num_inference_steps=20,
        guidance_scale=4.0,
        guidance_rescale=0.7,
        generator=[torch.Generator().manual_seed(i) for i in range(len(PROMPTS))],
        output_type="np",
    ).images
    tiles = [(picture * 255).round().astype(np.uint8) for picture in made]
    Image.fromarray(world.sheet(tiles, 4)).save(out)
