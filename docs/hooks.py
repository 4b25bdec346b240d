"""Pages of the manual that are made when it is built: the reference, the layouts, the gallery.

All pictures are proofs, drawn without a model. The site is also put into one zip, for offline.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pictured import EXAMPLES, picture

from storyforge.book.leaf import Face
from storyforge.book.preview import diagram, web
from storyforge.book.preview.drawing import Drawing, Label
from storyforge.book.preview.pages import proof_of
from storyforge.project.layouts import layouts
from storyforge.story.codes import catalogue
from storyforge.story.layout import shipped
from storyforge.story.schema import schema
from storyforge.story.story import read

ABOUT = {
    "story": "What `story.yaml` may say. Keys without a default must be written.",
    "concept": "What a concept's `concept.yaml` may say, beside its pictures.",
    "layout": "What a layout's file may say; it lies in `layouts/` beside the story.",
    "locale": "What a translation's file may say; it lies in `locales/` beside the story.",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    faces: list[Face] = []
    made = {f"reference/{kind}.md": "".join(reference(kind)) for kind in ABOUT}
    made["reference/codes.md"] = "".join(codes())
    made["layouts.md"] = "".join(all_layouts(faces))
    made["gallery.md"] = "".join(gallery(faces))
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    for name in EXAMPLES:
        shown = picture(name)
        files.append(File.generated(config, f"reference/keys/{name}.png", content=shown))
    for number, face in enumerate(faces):
        name = f"fonts/face-{number}{face.web.suffix}"
        files.append(File.generated(config, name, abs_src_path=str(face.web)))
    rules = "".join(
        f'@font-face {{ font-family: "face-{n}"; font-weight: {face.weight}; '
        f'src: url("face-{n}{face.web.suffix}"); }}\n'
        for n, face in enumerate(faces)
    )
    files.append(File.generated(config, "fonts/faces.css", content=rules + LOOKS))
    config.extra_css.append("fonts/faces.css")
    return files


LOOKS = """
.proof { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; align-items: start; }
.proof svg { width: 100%; height: auto; background: #fff; box-shadow: 0 1px 6px #0003; }
.proof pre { margin: 0; }
@media (max-width: 800px) { .proof { grid-template-columns: 1fr; } }
"""


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Name files of the repository that are no pages of the manual, instead of linking to them."""
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Put the whole site into one file; the same site, the same bytes."""
    site = Path(config.site_dir)
    target = site / "storyforge-manual.zip"
    target.unlink(missing_ok=True)
    pages = [path for path in sorted(site.rglob("*")) if path.is_file()]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in pages:
            name = f"storyforge-manual/{path.relative_to(site).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), path.read_bytes())


def reference(kind: str) -> Iterator[str]:
    """Every key of one kind of file, with its default and what it means."""
    root: Mapping[str, Any] = schema(kind)  # type: ignore[arg-type]
    yield f"# {kind}.yaml: every key\n\n{ABOUT[kind]}\n\n"
    yield from _table(root, "")
    for name, part in sorted(root.get("$defs", {}).items()):
        yield f"\n## {name} {{ #{name.lower()} }}\n\n{part.get('description', '')}\n\n"
        if "properties" in part:
            yield from _table(part, name)
        else:
            yield f"{_form(part)}\n"


def _table(part: Mapping[str, Any], name: str) -> Iterator[str]:
    """The keys of a part of the schema, with a picture of those that show."""
    required = set(part.get("required", ()))
    yield "| key | what may be written | default | what it means |\n|---|---|---|---|\n"
    for key, about in part.get("properties", {}).items():
        default = "must be written" if key in required else _default(about)
        means = str(about.get("description", "")).replace("|", "\\|").replace("\n", " ")
        if f"{name}.{key}" in EXAMPLES:
            means += f"<br>![a page with {key}](keys/{name}.{key}.png)"
        yield f"| `{key}` | {_form(about)} | {default} | {means} |\n"


def _default(about: Mapping[str, Any]) -> str:
    value = about.get("default")
    if value is None or value in ("", [], {}):
        return "nothing"
    return "as below" if isinstance(value, dict) else f"`{value}`"


def _form(about: Mapping[str, Any]) -> str:
    """What may be written, in words."""
    if "$ref" in about:
        name = str(about["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if name[:1].isupper() else name
    if "enum" in about:
        return ", ".join(f"`{each}`" for each in about["enum"])
    if "const" in about:
        return f"`{about['const']}`"
    if "anyOf" in about or "oneOf" in about:
        forms = [_form(each) for each in about.get("anyOf") or about["oneOf"]]
        return " or ".join(dict.fromkeys(form for form in forms if form != "nothing"))
    words = {"string": "a text", "integer": "a whole number", "number": "a number"}
    words |= {"boolean": "`true` or `false`", "null": "nothing"}
    match about.get("type"):
        case "array":
            inner = about.get("items") or (about.get("prefixItems") or [{}])[0]
            return f"a list: {_form(inner)}"
        case "object":
            inner = about.get("additionalProperties")
            named = inner if isinstance(inner, dict) else None
            named = named or next(iter(about.get("patternProperties", {}).values()), None)
            return f"a map: {_form(named)}" if named else "a map"
        case str(kind):
            low, high = about.get("minimum"), about.get("maximum")
            bounds = f" from {low}" if low is not None else ""
            bounds += f" to {high}" if high is not None else ""
            return words.get(kind, kind) + bounds
    return "anything"


def codes() -> Iterator[str]:
    """Every code of `check`: what is wrong, how it is mended, wrong and right."""
    yield "# Every code of `check`\n\n`storyforge explain CODE` says the same.\n"
    for about in catalogue().values():
        yield f"\n## {about.code}: {about.title} {{ #{about.code.lower()} }}\n\n"
        yield f"*{about.severity}.* {about.means.strip()}\n\n{about.mend.strip()}\n\n"
        for name, example in (("wrong", about.wrong), ("right", about.right)):
            yield f"{name}:\n\n```text\n{example.strip()}\n```\n\n"


def all_layouts(faces: list[Face]) -> Iterator[str]:
    """Every layout, with its picture."""
    yield "# Layouts\n\nA panel names one, and says who stands in its regions.\n"
    for layout in layouts(None):
        text = (shipped("layouts") / f"{layout.name}.yaml").read_text(encoding="utf-8")
        yield f"\n## {layout.name}\n\n{layout.description}\n\n"
        yield _shown(diagram.layout_drawing(layout), text, faces)


def gallery(faces: list[Face]) -> Iterator[str]:
    """The pages of the sample story, each beside the YAML that makes it."""
    yield "# Gallery\n\nEvery page stands beside the lines that make it, as `preview` shows it.\n"
    path = shipped("stories") / "fox-and-lantern.yaml"
    story, lines = read(path), path.read_text(encoding="utf-8").splitlines()
    proof = proof_of(story)
    starts = [page.mark.line for page in story.places.root.each("pages")]
    for number, start in enumerate(starts):
        end = starts[number + 1] - 1 if number + 1 < len(starts) else len(lines)
        told = "\n".join(line[2:] for line in lines[start - 1 : end]).strip("\n")
        first = story.pages[number].panels[0].id if story.pages[number].panels else None
        shown = [d for d in proof.drawings[2:] if any(p.panel == first for p in d.panels)]
        if shown:
            yield f"\n## Page {number + 1}\n\n" + _shown(shown[0], told, faces)


def _shown(drawing: Drawing, yaml: str, faces: list[Face]) -> str:
    """A drawing and its YAML side by side."""
    used = dict.fromkeys(mark.face for mark in drawing.marks if isinstance(mark, Label))
    faces += [face for face in used if face not in faces]
    svg = web.svg(drawing, faces, str).replace("\n", "")
    label = escape(drawing.title, quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    code = escape(yaml).replace("\n", "&#10;")
    return f'<div class="proof"><div>{svg}</div><pre><code>{code}</code></pre></div>\n'
