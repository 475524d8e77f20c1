"""`python -m gta`: label your own images; the data of the paper; what this machine is ready for."""

import argparse
import math
import sys
from pathlib import Path

from gta.data.copies import DATA

SAMPLING = "how an endpoint is asked: max_tokens, temperature, top_p, seed, extra, concurrency, timeout, patience; null leaves one out"
VIEW = "a second encoder, of images alone: a model of timm with its tag, a folder, features:FILE, embedded (docs/label.md)"
SIZES = "what holds the sizes of classes: free, as in the paper; anchored to the texts; estimated; equal (%(default)s)"
LINKS = "follow links of the folder of images that lead to this folder too"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where a dataset is missing or wrong; `doctor` only tells."""
    parser = argparse.ArgumentParser(prog="python -m gta", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_label(commands.add_parser("label", help="label the images of a folder from class names alone"))
    _add_predict(commands.add_parser("predict", help="label new images with a model that `label --save-model` kept"))
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
        return {"label": _label, "predict": _predict, "data": _data, "doctor": _doctor}[given.command](given)
    except (ValueError, OSError, RuntimeError, LookupError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        return 130


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", help="a folder, at any depth, or a text file with a path a line")
    parser.add_argument("--classes", required=True, help="class names, one a line, or a YAML file with template, domain, attributes")
    kinds = "ViT-B/32, ViT-B/16, ViT-L/14, any of open_clip with --pretrained, hf-hub:..., a folder; embedded, for digits and letters"
    parser.add_argument("--encoder", required=True, help=kinds)
    parser.add_argument("--out", required=True, help="the folder for results, and for what an interrupted run goes on from")
    parser.add_argument("--labelled", help="a CSV of examples with the columns path,label: few-shot")
    parser.add_argument("--llm", default="none", help="none, replay:attributes.json, MODEL@URL, URL; fieldguide, for digits (%(default)s)")
    parser.add_argument("--pretrained", help="a tag of open_clip, a checkpoint file, or TAG=FILE")
    parser.add_argument("--revision", help="of the Hub repository of the weights")
    parser.add_argument("--view", metavar="NAME", help=VIEW)
    parser.add_argument("--class-sizes", metavar="HOW", default="free", help=SIZES)
    parser.add_argument("--device", help="such as cpu or cuda; by default the GPU where there is one")
    parser.add_argument("--iterations", type=int, help="by default 30 on a GPU, 10 on a CPU")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn at random (%(default)s)")
    parser.add_argument("--max-calls", type=int, help="requests to the language model after which the run stops")
    parser.add_argument("--sampling", type=_pair, nargs="+", default=(), metavar="NAME=VALUE", help=SAMPLING)
    parser.add_argument("--price", type=float, nargs=2, metavar=("PROMPT", "ANSWER"), help="of a million tokens, to be told the cost")
    parser.add_argument("--reject-above", type=_score, metavar="SCORE", help="leave the label of images with a higher unfitness empty")
    parser.add_argument("--links-to", metavar="FOLDER", help=LINKS)
    parser.add_argument("--save-model", action="store_true", help="keep the adapted encoder in OUT/model, for `predict`")
    parser.add_argument("--plan", action="store_true", help="tell what would be done, its time, memory and price, and do nothing")


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="the folder OUT/model of `label --save-model`")
    parser.add_argument("images", type=Path, help="a folder, a text file with a path a line, or an image")
    parser.add_argument("--out", type=Path, help="a CSV file; by default the labels are printed")
    parser.add_argument("--device", help="such as cpu or cuda; by default the GPU where there is one")
    parser.add_argument("--reject-above", type=_score, metavar="SCORE", help="leave the label of images with a higher unfitness empty")
    parser.add_argument("--links-to", type=Path, metavar="FOLDER", help=LINKS)
    parser.add_argument("--view", metavar="NAME", help="of the model's second view, where it lies elsewhere than when the model was kept")


def _label(given: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from gta.label import folder, jobs, run

    chosen = {name: value for name, value in vars(given).items() if name not in ("command", "plan")}
    chosen["sampling"] = dict(given.sampling)
    try:
        options = jobs.Options(**chosen)
    except ValidationError as error:
        told = (f"--{str(e['loc'][0]).replace('_', '-')} {_inside(e['loc'][1:], e['input'])}: {e['msg']}" for e in error.errors())
        raise ValueError("\n".join(told)) from None
    job = jobs.prepare(options)
    if given.plan:
        from gta.label import plan

        print(plan.plan(job))
        return 0
    print(job)
    outcome = run.run(job)
    if outcome.usage:
        print(outcome.usage)
    written = folder.write(job, outcome)
    print(*written.values(), sep="\n")
    if outcome.left_out:
        print(f"{len(outcome.left_out):,} files have no label: left_out.csv says why")
    if outcome.unlike:
        print(outcome.unlike, file=sys.stderr)
    print(f"{len(outcome.names):,} images are labelled; to look at them, open {written['report.html']} in a browser")
    return 0


def _predict(given: argparse.Namespace) -> int:
    from gta.files import write_atomically
    from gta.label.predict import predict

    text, left_out = predict(given.model, given.images, given.device, given.reject_above, given.links_to, given.view)
    for name, reason in left_out:
        print(f"no label: {name!a}: {reason}", file=sys.stderr)
    if given.out:
        try:
            write_atomically(given.out, text)
        except OSError as error:
            sys.stdout.write(text)
            raise OSError(f"--out {given.out} cannot be written: {error}. The labels are printed instead") from error
        print(given.out)
    else:
        sys.stdout.write(text)
    return 0


def _inside(place: tuple, value: object) -> str:
    """A value, with its name where it is a part of an option."""
    return f"{'.'.join(map(str, place))}={value}" if place else str(value)


def _pair(text: str) -> tuple[str, str]:
    """NAME and VALUE."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as temperature=0.7")
    return name, value


def _score(text: str) -> float:
    """A number that another can be above."""
    if not math.isfinite(float(text)):
        raise argparse.ArgumentTypeError(f"no image can be above or below {text}; give a number, such as 0.6")
    return float(text)


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


if __name__ == "__main__":
    # A character that the terminal does not have is escaped, and is no error.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())
