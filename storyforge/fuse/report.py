"""The fusion report: what fusing cost whom, as one HTML page and as JSON.

Numbers come from the fused model's manifest; nothing is computed here but colours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Final

from storyforge.fuse.account import Account, Numbers
from storyforge.fuse.terms import STAGES
from storyforge.model.concept import FusedModel
from storyforge.store import write_whole

_STAGES: Final = {"text": "text encoder", "kv": "keys and values", "spatial": "spatial layers"}

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --dim: #5b636b; --line: #d9dde1; --paper: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eceef0; --dim: #a0a8b0; --line: #3a4046; --paper: #15181b; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.note, caption { color: var(--dim); font-size: .92rem; }
caption { text-align: left; padding-bottom: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0 1.2rem; }
th, td { padding: .35rem .7rem; border: 1px solid var(--line); text-align: right; }
th { font-weight: 600; } th[scope=row], thead th:first-child { text-align: left; }
td.heat { color: #1c2024; font-variant-numeric: tabular-nums; min-width: 3.4rem; }
td.heat.deep { color: #fff; } td.none { color: var(--dim); }
ul.warnings { padding: .8rem 1rem .8rem 2rem; border-left: 4px solid #c2571a; }
.maps { display: flex; flex-wrap: wrap; gap: 0 2rem; }
"""


def write_report(fused: FusedModel, sizes: Mapping[str, int], folder: Path) -> tuple[Path, Path]:
    """Write `fusion.html` and `fusion.json` into the folder, replacing what they were.

    sizes  what -> bytes on disk

    Returns both paths.
    """
    told = Account.model_validate(fused.report)
    page, data = folder / "fusion.html", folder / "fusion.json"
    content = {"base": fused.base, "bytes": dict(sizes), **told.model_dump(mode="json")}
    write_whole(data, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    write_whole(page, "".join(_page(told, list(fused.tokens), sizes)).encode())
    return page, data


def _page(told: Account, names: list[str], sizes: Mapping[str, int]) -> Iterator[str]:
    title = f"Fusion of {', '.join(names)}"
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    yield f"<h1>{escape(title)}</h1>\n<p>{escape(_terms(told))}</p>\n"
    if told.warnings:
        items = "".join(f"<li>{_marked(warning)}</li>" for warning in told.warnings)
        yield f'<ul class="warnings">{items}</ul>\n'
    else:
        yield "<p>No two concepts collide.</p>\n"
    yield "<h2>What each concept lost</h2>\n"
    yield (
        '<p class="note">Residual: how far the fused model is from the concept alone, on what that '
        "concept sees, as a share of what the concept changes. 0 is lossless, 1 no better than the "
        "base.</p>\n"
    )
    yield _residuals(told, names)
    yield "<h2>Who disturbs whom</h2>\n"
    yield (
        '<p class="note">How strongly the part of another concept (column) moves what a concept '
        "(row) sees, as a share of what that concept itself changes.</p>\n"
    )
    maps = (_map(stage, told.interference[stage], names) for stage in _known(told))
    yield f'<div class="maps">{"".join(maps)}</div>\n'
    yield "<h2>Size and time</h2>\n" + _costs(told, sizes)
    yield "</body>\n</html>\n"


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


def _marked(words: str) -> str:
    """Back-ticked words as code."""
    parts = escape(words).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _known(told: Account) -> list[str]:
    return [stage for stage in STAGES if stage in told.interference]


def _residuals(told: Account, names: list[str]) -> str:
    stages = _known(told)
    heads = "".join(f'<th scope="col">{_STAGES[stage]}</th>' for stage in stages)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(_cell(told.residuals[name].get(stage)) for stage in stages)
        + "</tr>"
        for name in names
    )
    head = f'<thead><tr><th scope="col">concept</th>{heads}</tr></thead>'
    return f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div>\n'


def _map(stage: str, seen: Numbers, names: list[str]) -> str:
    """A heat map of who disturbs whom."""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(_cell(None if name == other else seen[name].get(other)) for other in names)
        + "</tr>"
        for name in names
    )
    head = f"<thead><tr><td></td>{heads}</tr></thead>"
    caption = f"<caption>{_STAGES[stage]}</caption>"
    return f'<div class="scroll"><table>{caption}{head}<tbody>{rows}</tbody></table></div>'


def _cell(value: float | None) -> str:
    """A number on its colour, from pale at 0 to dark red at 1."""
    if value is None:
        return '<td class="none">–</td>'
    share = min(value, 1.0)
    deep = " deep" if share > 0.85 else ""
    colour = f"hsl({50 - 45 * share:.0f} 85% {94 - 54 * share:.0f}%)"
    return f'<td class="heat{deep}" style="background:{colour}">{value:.2f}</td>'


def _costs(told: Account, sizes: Mapping[str, int]) -> str:
    rows = [(what, f"{count / 1e6:.2f} MB") for what, count in sizes.items()]
    rows += [(f"time for the {what}", f"{spent:.1f} s") for what, spent in told.seconds.items()]
    rows.append(("numbers in the fused deltas", f"{told.parameters:,}"))
    told_rows = "".join(
        f'<tr><th scope="row">{escape(what)}</th><td>{value}</td></tr>' for what, value in rows
    )
    return f"<table><tbody>{told_rows}</tbody></table>\n"
