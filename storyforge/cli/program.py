"""The app that all verbs belong to, and how it ends when something goes wrong.

A verb is a function under `@app.command()` in one of the modules beside this one; the order in
which those are imported is the order of `--help`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Final

import typer
from typer.core import TyperGroup

from storyforge import __version__
from storyforge.cli.terminal import (
    counted,
    error_content,
    log_to_stderr,
    tell,
    tell_bug,
    tell_error,
    tell_json,
)
from storyforge.errors import StoryForgeError

_INTERRUPTED: Final = 130


class _Verbs(TyperGroup):
    """All verbs; what goes wrong in one is told in the author's words, with its exit code."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run the verb; never a traceback, unless STORYFORGE_TRACEBACK asks for one."""
        as_json = "--json" in ctx.args
        if not os.environ.get("STORYFORGE_TRACEBACK"):
            sys.excepthook = tell_bug
        for library in ("TRANSFORMERS", "DIFFUSERS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "error")
        try:
            with _stoppable():
                return super().invoke(ctx)
        except StoryForgeError as exc:
            tell_error(exc)
            if as_json:
                tell_json({"error": error_content(exc)})
            raise typer.Exit(exc.exit_code) from exc
        except KeyboardInterrupt as exc:
            tell(f"interrupted; {_kept(exc)}run the same command again to go on")
            raise typer.Exit(_INTERRUPTED) from exc


def _kept(interruption: KeyboardInterrupt) -> str:
    """What had been made before somebody ended the run, in words."""
    from storyforge.engine.maker import Interrupted

    made = counted(interruption.kept) if isinstance(interruption, Interrupted) else ""
    return f"kept: {made}; " if made else ""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a verb as Ctrl-C does: what is finished is kept, and it is said."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        """End as Ctrl-C does."""
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


app = typer.Typer(
    cls=_Verbs,
    name="storyforge",
    help="Make illustrated books whose characters look the same in every picture.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def group(name: str, about: str, cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """Open a group of verbs, such as `cache`."""
    made = typer.Typer(cls=cls, help=about, no_args_is_help=True)
    app.add_typer(made, name=name)
    return made


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"storyforge {__version__}")
        raise typer.Exit


_LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)


@app.callback()
def _main(
    ctx: typer.Context,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Say what is done; -vv says more.")
    ] = 0,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="Where models compute, such as `cpu`."),
    ] = None,
    vram: Annotated[
        float | None,
        typer.Option("--vram", min=1, metavar="GB", help="Memory of the GPU that may be used."),
    ] = None,
    eight_bits: Annotated[
        bool,
        typer.Option(
            "--eight-bits", help="Keep a large base's weights in 8 bits, in half the room."
        ),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which this is.")
    ] = False,
) -> None:
    from storyforge.modelref import DEVICE, EIGHT_BITS, VRAM

    # What workers in processes of their own are to know goes by the environment.
    told = ((DEVICE, device), (VRAM, vram), (EIGHT_BITS, 1 if eight_bits else None))
    for name, asked in told:
        if asked is not None:
            os.environ[name] = str(asked)
    if verbose:
        ctx.call_on_close(log_to_stderr(_LEVELS[min(verbose, len(_LEVELS) - 1)]))
