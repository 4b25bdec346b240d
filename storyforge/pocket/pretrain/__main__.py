"""Command line of the training of the embedded model."""

import argparse
from pathlib import Path

from storyforge.pocket.pretrain.adapters import PEAK as ADAPTERS
from storyforge.pocket.pretrain.adapters import train_adapter
from storyforge.pocket.pretrain.clip import train_clip
from storyforge.pocket.pretrain.denoiser import train_unet
from storyforge.pocket.pretrain.encoder import train_encoder
from storyforge.pocket.pretrain.figures import train_figures
from storyforge.pocket.pretrain.latents import draw_latents
from storyforge.pocket.pretrain.patches import train_patches
from storyforge.pocket.pretrain.run import Job, launch
from storyforge.pocket.pretrain.scenery import train_scenery
from storyforge.pocket.pretrain.shapes import train_shapes
from storyforge.pocket.pretrain.ship import keep_start, ship, ship_adapters, ship_clip
from storyforge.pocket.pretrain.text import learn_words, train_text

STAGES = {
    "latents": draw_latents,
    "words": learn_words,
    "text": train_text,
    "unet": train_unet,
    "encoder": train_encoder,
    "shapes": train_shapes,
    "figures": train_figures,
    "scenery": train_scenery,
    "patches": train_patches,
    "keep-start": keep_start,
    "ship": ship,
    "clip": train_clip,
    "ship-clip": ship_clip,
    **dict.fromkeys(ADAPTERS, train_adapter),
    "ship-adapters": ship_adapters,
}
BATCH = (
    {"text": 64, "unet": 16, "clip": 12}
    | dict.fromkeys(ADAPTERS, 8)
    | {"encoder": 16, "shapes": 4, "figures": 8, "scenery": 8, "patches": 4}
)


def main() -> None:
    """Run the stages asked for, in order."""
    parser = argparse.ArgumentParser(
        prog="python -m storyforge.pocket.pretrain", description=__doc__
    )
    parser.add_argument("--stage", choices=list(STAGES), required=True)
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="wall-clock budget of this call"
    )
    parser.add_argument(
        "--decay",
        type=float,
        default=0.3,
        help="share of the budget over which the learning rate falls; 0 to go on later",
    )
    parser.add_argument("--folder", type=Path, default=Path("build/pocket"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes on a CPU")
    parser.add_argument("--batch-size", type=int, help="pictures per worker and step")
    parser.add_argument("--pictures", type=int, default=100_000, help="drawings kept as latents")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rate", type=float, default=1.0, help="times the usual learning rate: less to go on with"
    )
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    launch(
        STAGES[args.stage],
        Job(
            stage=args.stage,
            folder=args.folder,
            minutes=args.minutes,
            decay=args.decay,
            device=args.device,
            workers=args.workers
            if args.device == "cpu" and not args.stage.startswith(("words", "keep", "ship"))
            else 1,
            batch_size=args.batch_size or BATCH.get(args.stage, 1),
            pictures=args.pictures,
            seed=args.seed,
            rate=args.rate,
        ),
    )


if __name__ == "__main__":
    main()
