"""The command line: read what is asked, call one function of `workflow`, show what comes of it.

The only room that prints: data to stdout, progress and complaints to stderr. `program` holds the
app, `options` what verbs share, `author`, `choosing`, `concept`,
`judging`, `making`, `products` and `provenance` the verbs.
"""

from storyforge.cli import author, choosing, concept, judging, making, products, provenance
from storyforge.cli.program import app

__all__ = ["app", "author", "choosing", "concept", "judging", "making", "products", "provenance"]
