"""The command line: ``python -m bogp`` says what there is."""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: its words; None is those that the process was started with.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bogp",
        description="Bayes Optimal Neural Network Pruning using Relational Graph Properties, "
        "reproduced "
        "and audited.",
        epilog="Notebooks, tests and pages are made by make (see make help); one notebook with "
        "parameters of yours by python -m bogp.run.",
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="")
    commands.add_parser(
        "doctor", help="check this machine: is it ready, and if not, what is to be done"
    ).add_argument("--json", action="store_true", help="for machines: one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    from bogp.workflow import doctor

    return doctor.main(as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
