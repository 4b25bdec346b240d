"""The fusion report: what fusing cost whom, as one HTML page and as JSON.

Numbers come from the fused model's manifest; nothing is computed here but colours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from storyforge.fuse.account import Account
from storyforge.fuse.terms import STAGES
from storyforge.model.concept import FusedModel
from storyforge.store import write_whole

_TEMPLATES: Final = Path(__file__).parent / "templates"
_STAGES: Final = {"text": "text encoder", "kv": "keys and values", "spatial": "spatial layers"}


def write_report(fused: FusedModel, sizes: Mapping[str, int], folder: Path) -> tuple[Path, Path]:
    """Write `fusion.html` and `fusion.json` into the folder, replacing what they were.

    sizes  what -> bytes on disk

    Returns both paths.
    """
    told = Account.model_validate(fused.report)
    page, data = folder / "fusion.html", folder / "fusion.json"
    content = {"base": fused.base, "bytes": dict(sizes), **told.model_dump(mode="json")}
    write_whole(data, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    write_whole(page, _page(told, list(fused.tokens), sizes).encode())
    return page, data


def _page(told: Account, names: list[str], sizes: Mapping[str, int]) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("fusion.html").render(
        names=names,
        terms=_terms(told),
        told=told,
        warnings=[warning.split("`") for warning in told.warnings],
        stages={stage: _STAGES[stage] for stage in STAGES if stage in told.interference},
        costs=_costs(told, sizes),
        colour=_colour,
    )


def _terms(told: Account) -> str:
    """How it was fused, in a sentence."""
    words = [f"Solver {told.solver}"]
    if told.ridge is not None:
        ridge = ", ".join(f"{stage} {value:g}" for stage, value in told.ridge.items())
        words.append(f"ridge {ridge}; preservation {told.preservation:g}")
    counted = told.weights.items(), told.strengths.items()
    for what, values in zip(("weight", "strength"), counted, strict=True):
        words += [f"{what} of {name} {value:g}" for name, value in values if value != 1]
    words += ["each stage watched through those before it"] * told.chain
    words += [f"refined {told.refine} times"] * (told.refine > 0)
    words.append(f"{told.layers} layers of rank {told.rank} at most")
    if told.rank_error is not None:
        worst = max(told.rank_error.values())
        words.append(f"cut to that rank at a loss of {worst:.1%} or less in every layer")
    return "; ".join(words) + "."


def _colour(value: float) -> str:
    """The colour of a share, from pale at 0 to dark red at 1."""
    share = min(value, 1.0)
    return f"hsl({50 - 45 * share:.0f} 85% {94 - 54 * share:.0f}%)"


def _costs(told: Account, sizes: Mapping[str, int]) -> list[tuple[str, str]]:
    """What it takes, and how much of it."""
    return [
        *((what, f"{count / 1e6:.2f} MB") for what, count in sizes.items()),
        *((f"time for the {what}", f"{spent:.1f} s") for what, spent in told.seconds.items()),
        ("numbers in the fused deltas", f"{told.parameters:,}"),
    ]
