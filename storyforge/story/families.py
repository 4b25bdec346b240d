"""The typefaces that come with storyforge, by name alone: a story is checked without reading one.

Their files and measures are `book.typeface`'s.
"""

from __future__ import annotations

from typing import Final

FAMILIES: Final = ("Andika", "Comic Neue", "EB Garamond")
"""Names that `book.font` understands, in any case of letters; the first is the usual one."""
