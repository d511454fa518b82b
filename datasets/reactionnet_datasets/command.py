"""What every command of this package offers alike: `--version`, `--log-level`, `-q`, its exit codes, how it refuses, and how
it keeps a second one out of a folder.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

EXIT_FAILED, EXIT_REFUSED = 1, 2
console = Console(highlight=False, markup=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def _version(value: bool) -> None:
    if value:
        print(f"reactionnet {version('reactionnet')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]


def set_log_level(name: str) -> None:
    """BadParameter for a level that does not exist."""
    levels = ("debug", "info", "warning", "error")
    if name not in levels:
        raise typer.BadParameter(f"{name!r} is no log level; expected one of {', '.join(levels)}")
    logging.basicConfig(level=name.upper(), format="%(levelname)s %(name)s: %(message)s")


def make_app() -> typer.Typer:
    """A command that shows a user no traceback of its own making."""
    return typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@contextmanager
def refusals() -> Iterator[None]:
    """What a user can mend, an OSError or a ValueError, becomes one line and exit code 2."""
    try:
        yield
    except (OSError, ValueError) as error:
        errors.print(f"error: {error}")
        raise typer.Exit(EXIT_REFUSED) from None


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Refuse a second `what`, such as an import, into a folder: ValueError. The lock is on the folder itself and goes with
    the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows has no locks on folders
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ValueError(f"another {what} is writing to {folder}") from None
    try:
        yield
    finally:
        os.close(handle)
