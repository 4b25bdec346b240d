"""Whether everything a story says can be set: `check`'s look at its pages, before any is drawn.

Pages are composed as they will be, round pictures that are not there yet. Whether the finished book
can be printed is `preflight`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from storyforge.book.page import problems, undrawn
from storyforge.book.unsettable import Place, Unprintable, Unsettable
from storyforge.errors import Diagnostic, EnvironmentProblem, Mark, Report
from storyforge.story.locales import Locale, language_of, locales_of
from storyforge.story.story import Story
from storyforge.story.yaml import Node, load


def fit_findings(story: Story) -> tuple[Diagnostic, ...]:
    """Every text and picture of the story that cannot be set, in any language, where it is said."""
    report = Report(str(story.path))
    root = load(story.path, report)
    if root is None:
        return tuple(report.findings())
    reports: list[Report] = [report]
    locales = locales_of(story.path, language_of(root), reports)
    art = undrawn(story)
    for language in story.languages():
        try:
            found = problems(story, art, language)
        except EnvironmentProblem as exc:
            report.error(root.mark_of("book"), "SF313", exc.message, exc.hint)
            break
        for problem in found:
            where, mark = _place(problem.place, root, locales, language, report)
            _tell(problem, where, mark)
    return tuple(sorted({finding for each in reports for finding in each.findings()}))


def _tell(problem: Unsettable, report: Report, mark: Mark) -> None:
    message = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
    if isinstance(problem, Unprintable):
        report.error(mark, "SF324", message)
    else:
        report.error(mark, "SF323", message)


def _place(
    place: Place, root: Node, locales: Sequence[Locale], language: str, report: Report
) -> tuple[Report, Mark]:
    """The file and the line that say it: a locale's if it is said there."""
    for locale in locales:
        if locale.language == language:
            node, left = _followed(locale.root, _in_locale(place))
            if not left:
                return locale.report, node.mark
    node, left = _followed(root, _in_story(place, root))
    said = node.get(language) if node.entries and not left else None
    return report, node.mark if said is None else said.mark


def _in_locale(place: Place) -> Place:
    if place[0] == "page":
        return ("pages", str(place[1]))
    return ("panels", *place[1:]) if place[0] == "panel" else place


def _in_story(place: Place, root: Node) -> Place:
    """The place as a path from the root of the story's tree."""
    if place[0] == "page" and isinstance(place[1], int):
        return ("pages", place[1] - 1, *place[2:])
    if place[0] != "panel":
        return place
    for number, page in enumerate(root.each("pages")):
        for index, panel in enumerate(page.each("panels")):
            if panel.text_at("id") == place[1]:
                rest = (*place[2:], "text") if len(place) == 4 else place[2:]
                return ("pages", number, "panels", index, *rest)
    return ("pages",)


def _followed(node: Node, path: Place) -> tuple[Node, Place]:
    """The node as far down `path` as there is one, and what is left of the path."""
    for index, step in enumerate(path):
        if isinstance(step, int):
            items = node.items or []
            inner = items[step] if step < len(items) else None
        else:
            inner = node.get(step)
        if inner is None:
            return node, path[index:]
        node = inner
    return node, ()
