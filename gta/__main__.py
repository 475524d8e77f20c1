"""`python -m gta`: the data of the paper, and what this machine is ready for."""

import argparse
import sys
from pathlib import Path

from gta.copies import DATA


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where a dataset is missing or wrong; `doctor` only tells."""
    parser = argparse.ArgumentParser(prog="python -m gta", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    data = commands.add_parser("data", help="fetch or verify a dataset of the paper").add_subparsers(dest="action", required=True)
    for action, does in (("fetch", "bring a dataset to the disk"), ("verify", "hold a copy against the paper's")):
        parser_of = data.add_parser(action, help=does)
        parser_of.add_argument("dataset")
        parser_of.add_argument("--root", type=Path, default=DATA, help="the folder that holds, or will hold, the datasets (%(default)s)")
    data.choices["fetch"].add_argument(
        "--from", dest="given", type=Path, nargs="+", default=[], help="archives of your own, or the folder of your copy"
    )
    data.choices["verify"].add_argument("--quick", action="store_true", help="count the images without opening them")
    doctor = commands.add_parser("doctor", help="what is ready, what is missing, and the command for it")
    doctor.add_argument("--root", type=Path, default=DATA, help="the folder of the datasets (%(default)s)")
    doctor.add_argument("--llm", help="MODEL@URL of the endpoint that runs will ask")
    given = parser.parse_args(arguments)
    try:
        return _doctor(given) if given.command == "doctor" else _data(given)
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


def _data(given: argparse.Namespace) -> int:
    from gta import fetch, verify  # what they need takes a second to load

    if given.action == "fetch":
        report = fetch.fetch(given.dataset, given.root, given.given)
    else:
        report = verify.verify(given.dataset, given.root, decode=not given.quick)
    print(report)
    return 0 if report.ready else 1


def _doctor(given: argparse.Namespace) -> int:
    from gta import doctor

    print(doctor.table(doctor.examine(given.root, given.llm)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
