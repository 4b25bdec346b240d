"""The command line: read what is asked, call one method of a `Project`, show what comes of it.

The only room that prints: data to stdout, progress and complaints to stderr. `program` holds the
app, `options` what verbs share, `terminal` how things look there, and `author`, `make`, `approve`,
`concept`, `desk`, `evaluate`, `files`, `machines`, `pack`, `products`, `provenance` and `write` the
verbs.
"""

from storyforge.cli import author, make

# isort: split
# `--help` lists verbs in this order: whoever begins reads the first ones first.
from storyforge.cli import (
    approve,
    concept,
    desk,
    evaluate,
    files,
    machines,
    pack,
    products,
    provenance,
    write,
)
from storyforge.cli.program import app

__all__ = [
    "app",
    "approve",
    "author",
    "concept",
    "desk",
    "evaluate",
    "files",
    "machines",
    "make",
    "pack",
    "products",
    "provenance",
    "write",
]
