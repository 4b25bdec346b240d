"""Recipes of training, side by side: what each leaves of concepts alone, and once they are fused.

`python -m benchmarks.recipes --concepts DIR --n 8 --train "{}" --train "{steps: 50}" --json` learns
the first N concepts of a folder by ED-LoRA once for every recipe, fuses them in closed form, and
judges the pictures as `storyforge evaluate fusion` does. A recipe is what stands under `train:` in
a concept's file. What is learnt and drawn is kept, and an interrupted run goes on. Not covered:
other ways to learn (`benchmarks.training --train`), other bases, time.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import yaml

from benchmarks.fusionways import told
from benchmarks.training import settings
from storyforge.errors import StoryForgeError
from storyforge.evaluate.concept_set import read_concept_set
from storyforge.evaluate.fusion import FusionConfig, evaluate_fusion, routes_named
from storyforge.modelref import base_at

METHOD = "ed-lora+closed-form"
KEPT = ("versions", "date", "base_hash", "clip", "prompts", "seeds", "steps")


def by_recipe(concepts: Path, recipe: Mapping[str, object], folder: Path) -> Path:
    """A folder of the same concepts, in the same order, all to be learnt by one recipe.

    Scenes go without `composed`: nobody cuts out a scene.

    folder  written anew; what is in it is lost
    """
    shutil.rmtree(folder, ignore_errors=True)
    members = read_concept_set(concepts, base_at("pocket", Path.cwd())).members
    for spec in members:
        said = yaml.safe_load((spec.folder / "concept.yaml").read_text(encoding="utf-8"))
        own = dict(recipe)
        if spec.kind == "scene":
            own.pop("composed", None)
        said |= {"images": str(spec.pictures().absolute()), "train": own}
        (folder / spec.name).mkdir(parents=True)
        text = yaml.safe_dump(said, sort_keys=False)
        (folder / spec.name / "concept.yaml").write_text(text, encoding="utf-8")
    (folder / "order.txt").write_text("\n".join(spec.name for spec in members), encoding="utf-8")
    return folder


def measured(asked: argparse.Namespace) -> dict[str, object]:
    """Every recipe's figures, in the order asked for."""
    store = asked.store or asked.concepts / ".storyforge"
    out = asked.out or asked.concepts / "recipes"
    rows: list[dict[str, object]] = []
    about: dict[str, object] = {}
    for place, recipe in enumerate(asked.train):
        told(f"recipe {recipe}", place, len(asked.train))
        exam = FusionConfig(
            concepts=by_recipe(asked.concepts, recipe, out / ".asked"),
            counts=tuple(asked.n),
            routes=routes_named([METHOD]),
            prompts=asked.prompts,
            steps=asked.steps,
            jobs=asked.jobs,
            store=store,
            out=out / "evaluation",
        )
        found = evaluate_fusion(exam, told).content
        rows.append({"train": recipe, "drift": drift_of(found), "n": by_count(found)})
        about = {name: found[name] for name in KEPT}
    command = shlex.join(["python", "-m", "benchmarks.recipes", *sys.argv[1:]])
    return {"recipes": rows, **about, "command": command}


def by_count(found: Mapping[str, object]) -> dict[str, object]:
    """The figures of the method for each number of concepts, without those of single concepts."""
    counts = found["n"]
    assert isinstance(counts, dict)
    return {
        count: {name: value for name, value in methods[METHOD].items() if name != "concepts"}
        for count, methods in counts.items()
    }


def drift_of(found: Mapping[str, object]) -> float:
    """The mean over concepts."""
    concepts = found["concepts"]
    assert isinstance(concepts, dict)
    drifts: list[float] = [each["single"]["ed-lora"]["drift"] for each in concepts.values()]
    return round(mean(drifts), 4)


def parser() -> argparse.ArgumentParser:
    """What can be asked."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.recipes", description=(__doc__ or "").partition("\n")[0]
    )
    made.add_argument("--concepts", type=Path, required=True, help="folder of concepts' folders")
    made.add_argument("--train", type=settings, action="append", required=True, metavar="YAML")
    made.add_argument("--store", type=Path, help="where products are kept [DIR/.storyforge]")
    made.add_argument("--out", type=Path, help="where pictures are kept [DIR/recipes]")
    made.add_argument("--n", type=int, nargs="+", default=[8], help="how many to fuse [8]")
    made.add_argument("--prompts", type=int, default=2, help="of each of the four kinds [2]")
    made.add_argument("--steps", type=int, default=12, help="denoising steps [12]")
    made.add_argument("--jobs", type=int, default=1, help="processes side by side [1]")
    made.add_argument("--json", action="store_true", help="understood; there is no other form")
    return made


def main() -> None:
    """Measure and print."""
    try:
        print(json.dumps(measured(parser().parse_args()), indent=1))
    except StoryForgeError as exc:
        raise SystemExit(f"{exc.message}; {exc.hint}" if exc.hint else exc.message) from exc


if __name__ == "__main__":
    main()
