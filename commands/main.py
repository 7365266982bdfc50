"""Uses a trained model from the shell; texts come from stdin or a file, a line each.

    boustro generate runs/demo --prompt "The " --max-new-tokens 200
    boustro generate runs/demo --like "The list of names" --temperature 0.8 < prompts.txt
    boustro reconstruct runs/names < names.txt
    boustro interpolate runs/names anna robert --steps 7 --spherical
    boustro interpolate runs/names --json < pairs.tsv
    boustro score runs/names --samples 50 --json < names.txt
    boustro vectors runs/names --output names.vec < names.txt
    boustro onnx runs/names runs/names-onnx

`python -m boustro` is the same. With --json every result is a JSON object on a line of its own.
"""

import argparse
import sys

from boustro.commands import generate, interpolate, onnx, reconstruct, score, vectors

COMMANDS = (generate, reconstruct, interpolate, score, vectors, onnx)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 2 after an error of the user's, printed as one sentence, 130 if it was stopped."""
    options = parse(argv)
    try:
        options.run(options)
    except BrokenPipeError:
        sys.stderr.close()  # the reader has had enough, as `head` has
        return 0
    except KeyboardInterrupt:
        print("boustro: stopped.", file=sys.stderr)
        return 130
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        print(f"boustro: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line as a namespace; `run` is the function of its command."""
    parser = argparse.ArgumentParser(
        prog="boustro", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        line = command.__doc__.splitlines()[0]
        name = command.__name__.rpartition(".")[2]
        options = commands.add_parser(name, help=line, description=line)
        options.add_argument("model", help="Folder or Hub id of a boustro model.")
        command.add_options(options)
        options.set_defaults(run=command.run)
    return parser.parse_args(argv)
