"""What every command of this package offers alike: `--version`, `--log-level`, `-q`, and its exit codes."""

import logging
from importlib.metadata import version
from typing import Annotated

import typer

EXIT_FAILED, EXIT_REFUSED = 1, 2


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
