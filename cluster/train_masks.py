"""Train one part of a mask database: ``python cluster/train_masks.py DATABASE --part 3 --of 100``;
under ``own_store.py``, one task of a job array.

The parts are disjoint and together the whole, and a training does not depend on its company: any
number of parts gives the same rows.
"""

import argparse
import sys
from pathlib import Path

from bogp import paths, search
from bogp.errors import BogpError, InvalidInput
from bogp.graphs import database
from bogp.training.evaluation import Evaluator, Job
from bogp.training.protocols import Protocol, named


def jobs(
    masks: database.MaskDatabase,
    protocol: Protocol,
    dataset: str,
    seeds: int,
    part: int,
    parts: int,
) -> list[Job]:
    """The trainings of one part.

    Args:
        masks: the database.
        protocol: how networks are trained.
        dataset: name of the data set.
        seeds: trainings of each mask.
        part: which, from 1.
        parts: how many there are.

    Raises:
        InvalidInput: there is no such part.
    """
    if not 1 <= part <= parts or seeds < 1:
        raise InvalidInput(
            f"Part {part} of {parts} with {seeds} seeds: parts count from 1 to their number, "
            "and one seed is the least."
        )
    return [
        search.mask_job(masks, row, seed, protocol, dataset)
        for row in range(part - 1, len(masks), parts)
        for seed in range(seeds)
    ]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Train one part of a mask database.")
    parser.add_argument("database", help="its name; built before")
    parser.add_argument("--part", type=int, required=True)
    parser.add_argument("--of", type=int, required=True, metavar="PARTS")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each mask")
    parser.add_argument("--protocol", default="calibrated")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--known",
        type=Path,
        nargs="*",
        default=[],
        help="Parquet files of evaluations to start from",
    )
    arguments = parser.parse_args(argv)
    try:
        masks = database.open_database(paths.database_dir(arguments.database))
        wanted = jobs(
            masks,
            named(arguments.protocol),
            arguments.dataset,
            arguments.seeds,
            arguments.part,
            arguments.of,
        )
        evaluator = Evaluator(device=arguments.device, known=arguments.known)
        evaluator.evaluate(wanted)
    except BogpError as error:
        print(f"bogp: {error}", file=sys.stderr)
        return 1
    print(f"{len(wanted)} evaluations, {evaluator.trained} of them trained now")
    return 0


if __name__ == "__main__":
    sys.exit(main())
