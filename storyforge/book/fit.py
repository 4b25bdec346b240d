"""Whether everything a story says can be set: `check`'s look at its pages, before any is drawn.

Pages are composed as they will be, round pictures that are not there yet. Whether the finished book
can be printed is `preflight`'s.
"""

from __future__ import annotations

from storyforge.book.page import Kept, problems, undrawn
from storyforge.book.unsettable import Unheeded, Unprintable
from storyforge.errors import Diagnostic, EnvironmentProblem, Report
from storyforge.story.story import Story


def fit_findings(story: Story, kept: Kept | None = None) -> tuple[Diagnostic, ...]:
    """Every text and picture of the story that cannot be set, in any language, where it is said.

    kept  pages that need not be composed again
    """
    reports = {str(story.path): Report(str(story.path))}
    art = undrawn(story)
    for language in story.languages():
        try:
            found = problems(story, art, language, kept)
        except EnvironmentProblem as exc:
            report = reports[str(story.path)]
            report.error(story.places.key("book"), "SF313", exc.message, exc.hint)
            break
        for problem in found:
            file, mark = story.places.find(problem.place, language)
            message = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
            report = reports.setdefault(file, Report(file))
            if isinstance(problem, Unheeded):
                report.warning(mark, "SF413", message)
            elif isinstance(problem, Unprintable):
                report.error(mark, "SF324", message)
            else:
                report.error(mark, "SF323", message)
    return tuple(sorted({each for report in reports.values() for each in report.findings()}))
