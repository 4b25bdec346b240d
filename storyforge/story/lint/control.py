"""Files that a picture is drawn with: control pictures, adapters, LoRAs, pictures drawn over."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from storyforge.errors import Report
from storyforge.story.lint.cast import no_such, regions_of
from storyforge.story.lint.models import is_model_file
from storyforge.story.lint.paths import check_picture, located
from storyforge.story.yaml import Node

_ELSEWHERE: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")
"""How hub ids and the embedded model's adapters are written; no look at the disk finds them."""


def check_control(panel: Node, folder: Path, report: Report) -> None:
    """Whether the files and regions that the panel's `control` and `refine` name are there."""
    regions = [name for name, _ in regions_of(panel)]
    for control in panel.each("control"):
        _check_file(control.get("picture"), "control picture", folder, report)
        region = control.get("region")
        if region is not None and region.text is not None and region.text not in regions:
            message = no_such("region in this panel", region.text, regions)
            report.error(region.mark, "SF302", message)
        adapter = control.get("adapter")
        if adapter is not None and adapter.text and not _ELSEWHERE.fullmatch(adapter.text):
            path = located(adapter, folder, "folder", report)
            if path is not None and not os.path.isdir(path):
                report.error(adapter.mark, "SF303", f"no adapter folder at `{path}`")
            elif path is not None and not os.path.isfile(path / "config.json"):
                message = f"`{path}` holds no adapter: there is no config.json"
                report.error(adapter.mark, "SF303", message)
    refine = panel.get("refine")
    if refine is not None:
        _check_file(refine.get("picture"), "picture to draw over", folder, report)


def check_loras(root: Node, folder: Path, report: Report) -> None:
    """Whether the files, or folders of PEFT, under `sampling: {lora: …}` are there."""
    for lora in (root.get("sampling") or root).each("lora"):
        node = lora.get("file")
        path = located(node, folder, "file", report) if node is not None and node.text else None
        if node is not None and path is not None and not is_model_file(path):
            what = "LoRA in the folder" if os.path.isdir(path) else "LoRA at"
            report.error(node.mark, "SF303", f"no {what} `{path}`")


def _check_file(node: Node | None, what: str, folder: Path, report: Report) -> None:
    if node is None or node.text is None:
        return
    path = located(node, folder, "file", report)
    if path is not None:
        check_picture(node.mark, path, what, report)
