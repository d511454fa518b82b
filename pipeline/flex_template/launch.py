"""What Dataflow's template launcher starts: a flex template's parameters as options of `reactionnet-build`.

Dataflow hands every parameter over as `--name=value` and adds options of Beam (`--runner`, `--template_location`, ...).
Names of parameters have no hyphens, a switch is `true` or `false`, and `;` separates what an option takes several of.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from reactionnet_pipeline import cli

RUNNER = "--runner=DataflowRunner"


def build_options(arguments: Sequence[str]) -> Iterator[str]:
    """The command line of `reactionnet-build` that template parameters come to; what is Beam's stays as it is."""
    known = options()
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        option = known.get(name)
        if option is None:
            yield argument
        elif option.is_flag:
            if value == "true":
                yield option.opts[-1]
        else:
            for each in value.split(";") if option.multiple else [value]:
                yield f"{option.opts[-1]}={each}"
    if not any(argument.startswith("--runner") for argument in arguments):
        yield RUNNER  # without one the build would run on the launcher itself


def options() -> Mapping[str, Any]:
    """The options of `reactionnet-build`, by their names as parameters of the template."""
    command: Any = typer.main.get_command(cli.app)
    found = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    return {option.opts[-1].removeprefix("--").replace("-", "_"): option for option in found}


if __name__ == "__main__":
    sys.argv[1:] = build_options(sys.argv[1:])
    cli.main()
