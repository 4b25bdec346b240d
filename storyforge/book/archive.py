"""Books that are zip archives, whose bytes depend on nothing but their contents."""

from __future__ import annotations

import datetime
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MADE_ON: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
"""No clock: the same book is the same bytes on any day."""

_PACKED: Final = frozenset({".jpg", ".woff2"})
"""These are compressed already."""

_UNIX: Final = 3
_READABLE: Final = 0o100644 << 16
"""A plain file that all may read, as zip notes it; otherwise the machine's own ways are noted."""


def archived(contents: Mapping[str, bytes]) -> bytes:
    """The files as an archive, in their order.

    A file named `mimetype` is stored as it is, as EPUB wants it.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, MADE_ON.timetuple()[:6])
            entry.create_system, entry.external_attr = _UNIX, _READABLE
            stored = name == "mimetype" or Path(name).suffix in _PACKED
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return made.getvalue()


def write_archive(path: Path, contents: Mapping[str, bytes]) -> Path:
    """Write such an archive to `path`, whole or not at all."""
    made = archived(contents)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(made)
    os.replace(partial, path)
    return path
