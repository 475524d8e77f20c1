"""`python -m gta`: label your own images; the data of the paper; what this machine is ready for."""

import argparse
import os
import sys
from pathlib import Path

from gta.data.copies import DATA
from gta.label import commands

RATE = "by default 0.0003 for a student with weights, else 0.01 with batch normalisation and 0.001 without"
STUDENT = "teacher/4, its own tower with a quarter of its parameters; a model of timm or open_clip; a folder (docs/distil.md)"
OBJECTIVE = "what the student learns (%(default)s): the teacher's soft labels, hard ones, labels with reasons, or its layers too"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where a dataset is missing or wrong; `doctor` only tells."""
    parser = argparse.ArgumentParser(prog="python -m gta", description=__doc__)
    parsers = parser.add_subparsers(dest="command", required=True)
    commands.add_label(parsers.add_parser("label", help="label the images of a folder from class names alone"))
    commands.add_encode(parsers.add_parser("encode", help="encode a folder ahead of `label`, by several processes at once"))
    commands.add_review(parsers.add_parser("review", help="look at a few images of a labelled folder; what you say of them is learnt"))
    commands.add_predict(parsers.add_parser("predict", help="label new images with a model that `label --save-model` kept"))
    _add_distil(parsers.add_parser("distil", help="train a small, fast student of a kept model on unlabelled images"))
    _add_diagnose(parsers.add_parser("diagnose", help="which labels are likely wrong, from some whose truth you know"))
    commands.add_export(parsers.add_parser("export", help="write the labels of a folder in the form of another tool"))
    data = parsers.add_parser("data", help="fetch or verify a dataset of the paper").add_subparsers(dest="action", required=True)
    for action, does in (("fetch", "bring a dataset to the disk"), ("verify", "hold a copy against the paper's")):
        parser_of = data.add_parser(action, help=does)
        parser_of.add_argument("dataset")
        parser_of.add_argument("--root", type=Path, default=DATA, help="the folder that holds, or will hold, the datasets (%(default)s)")
    data.choices["fetch"].add_argument(
        "--from", dest="given", type=Path, nargs="+", default=[], help="archives of your own, or the folder of your copy"
    )
    data.choices["verify"].add_argument("--quick", action="store_true", help="count the images without opening them")
    doctor = parsers.add_parser("doctor", help="what is ready, what is missing, and the command for it")
    doctor.add_argument("--root", type=Path, default=DATA, help="the folder of the datasets (%(default)s)")
    doctor.add_argument("--llm", help="MODEL@URL of the endpoint that runs will ask")
    given = parser.parse_args(arguments)
    try:
        do = {"label": commands.label, "encode": commands.encode, "review": commands.review, "predict": commands.predict}
        do |= {"export": commands.export, "distil": _distil, "diagnose": _diagnose, "data": _data, "doctor": _doctor}
        return do[given.command](given)
    except (ValueError, OSError, RuntimeError, LookupError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        return 130


def _add_distil(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="the folder OUT/model of `label --save-model`: the teacher")
    parser.add_argument("images", type=Path, help="unlabelled images: a folder, or a text file with a path a line; the more the better")
    parser.add_argument("--student", required=True, metavar="NAME", help=STUDENT)
    parser.add_argument("--out", type=Path, required=True, help="the folder for the student, and for what an interrupted run goes on from")
    parser.add_argument("--objective", choices=("soft", "hard", "rationales", "tinybert"), default="soft", help=OBJECTIVE)
    parser.add_argument("--epochs", type=int, default=30, help="passes over the images (%(default)s)")
    parser.add_argument("--lr", type=float, help=RATE)
    parser.add_argument("--no-flip", action="store_true", help="do not mirror images: for digits, and for all that has a left and a right")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn at random (%(default)s)")
    parser.add_argument("--device", help="such as cpu or cuda; by default the GPU where there is one")
    parser.add_argument("--links-to", type=Path, metavar="FOLDER", help=commands.LINKS)


def _add_diagnose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the folder OUT of `label`, or any folder for the results with --predictions")
    parser.add_argument("--labelled", type=Path, help="a CSV path,label with the truth of some images, best drawn at random")
    parser.add_argument("--images", type=Path, help="where the images lie; by default where `label` read them, else the results")
    parser.add_argument("--predictions", type=Path, help="a CSV image,label,prediction of any labeller; label is the truth, or empty")
    parser.add_argument("--encoder", help="as in `label`; by default the model that `label --save-model` kept")
    parser.add_argument("--pretrained", help="a tag of open_clip, a checkpoint file, or TAG=FILE")
    parser.add_argument("--words", type=Path, help="a file with a phrase a line, such as a red belly, by which slices may be named too")
    parser.add_argument("--device", help="such as cpu or cuda; by default the GPU where there is one")


def _distil(given: argparse.Namespace) -> int:
    from gta.distil.folder import distil
    from gta.distil.trainer import Recipe

    recipe = Recipe(given.epochs, lr=given.lr, flip=not given.no_flip, seed=given.seed)
    chosen = {"objective": given.objective, "recipe": recipe, "device": given.device, "links_to": given.links_to}
    print(distil(given.model, given.images, given.student, given.out, **chosen))
    return 0


def _diagnose(given: argparse.Namespace) -> int:
    from gta.diagnosis import folder, report

    chosen = {name: value for name, value in vars(given).items() if name not in ("command", "folder", "labelled")}
    found = folder.read(given.folder, given.labelled, **chosen)
    written = report.write(found, given.folder)
    for one in found.told:
        rates = f"{100 * one.slice.rate:.0f} % of {len(one.slice.members)} checked images are wrong, {100 * one.slice.rest:.0f} % elsewhere"
        print(f"{report.shown(str(one))}: {rates}; {len(one.rest):,} to look at")
    if not found.told:
        print("no slice fails more than chance explains")
    print(*written.values(), sep="\n")
    return 0


def _data(given: argparse.Namespace) -> int:
    from gta.data import (
        fetch,
        verify,  # what they need takes a second to load
    )

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


def _led() -> int:
    """`main`, by the first of the processes that torchrun started; the others help it to adapt."""
    if "WORLD_SIZE" not in os.environ:
        return main()
    from gta.encoders.parallel import crew

    with crew() as leads:
        return main() if leads else 0


if __name__ == "__main__":
    # A character that the terminal does not have is escaped, and is no error.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(_led())
