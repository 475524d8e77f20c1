"""The commands for a folder of one's own, `label`, `encode`, `review`, `predict` and `export`: what can be given, and what is printed."""

import argparse
import math
import sys
from pathlib import Path

SAMPLING = "how an endpoint is asked: max_tokens, temperature, top_p, seed, extra, concurrency, timeout, patience; null leaves one out"
VIEW = "a second encoder, of images alone: a model of timm with its tag, a folder, features:FILE, embedded (docs/label.md)"
SIZES = "what holds the sizes of classes: free, as in the paper; anchored to the texts; estimated; equal (%(default)s)"
FLOOR = "with a taxonomy: the summed confidence above which a class or a parent is named, from 0.5 to under 1 (%(default)s)"
RISK = "after a review: the share of accepted labels that may be wrong (%(default)s)"
REVIEWED = "a CSV path,label of images that were drawn at random and reviewed; by default OUT/reviews.csv, where it is there"
CHOSEN = "how images are chosen (%(default)s); answers to random ones judge the labels, and are not learnt from"
GROUPS = "images that share evidence: burst, burst:SECONDS, folder, name:PATTERN, or a CSV path,group (docs/label.md)"
LINKS = "follow links of the folder of images that lead to this folder too"


def add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", help="a folder, at any depth, or a text file with a path a line")
    parser.add_argument("--classes", required=True, help="names, one a line, or a YAML file with template, domain, attributes, parents")
    kinds = (
        "ViT-B/16, PE-Core-B/16 (docs/encoders.md has more), any of open_clip with --pretrained, hf-hub:..., a folder; embedded, for digits"
    )
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
    parser.add_argument("--taxonomy", metavar="FILE", help="a CSV with the columns child,parent, where the classes file has no parents")
    parser.add_argument("--floor", type=float, default=0.5, help=FLOOR)
    parser.add_argument("--reviewed", metavar="FILE", help=REVIEWED)
    parser.add_argument("--risk", type=float, default=0.1, help=RISK)
    parser.add_argument("--groups", metavar="FILE|RULE", help=GROUPS)
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="of a video a frame is labelled (%(default)s)")
    parser.add_argument("--links-to", metavar="FOLDER", help=LINKS)
    parser.add_argument("--save-model", action="store_true", help="keep the adapted encoder in OUT/model, for `predict`, and as ONNX")
    parser.add_argument("--plan", action="store_true", help="tell what would be done, its time, memory and price, and do nothing")


def add_encode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="images", type=Path, help="a folder, at any depth, or a text file with a path a line")
    parser.add_argument("--encoder", dest="name", metavar="ENCODER", required=True, help="as in `label`")
    parser.add_argument("--out", type=Path, required=True, help="the folder OUT of `label`; all processes get the same")
    parser.add_argument("--pretrained", help="a tag of open_clip, a checkpoint file, or TAG=FILE")
    parser.add_argument("--revision", help="of the Hub repository of the weights")
    parser.add_argument("--device", help="such as cuda:1; by default the GPU where there is one")
    parser.add_argument("--links-to", type=Path, metavar="FOLDER", help=LINKS)


def add_review(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the folder OUT of `label`; answers are added to OUT/reviews.csv")
    ways = ("both", "uncertain", "diverse", "random")
    parser.add_argument("--by", choices=ways, default="both", help=CHOSEN)
    parser.add_argument("--images", type=int, default=20, metavar="K", help="of a round (%(default)s)")
    parser.add_argument("--reviewer", default="me", metavar="NAME", help="whose answers they are (%(default)s)")
    parser.add_argument("--again", action="store_true", help="images that another reviewer has answered, to compare with")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn at random (%(default)s)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--port", type=int, default=0, help="of the page on this machine; by default any that is free")
    how.add_argument("--file", action="store_true", help="no page: write OUT/round.csv, whose column `label` you fill")
    how.add_argument("--read", type=Path, metavar="FILE", help="take over the labels of such a file, and learn from them")
    how.add_argument("--compare", action="store_true", help="how far reviewers agree, and about which images they do not")


def add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="the folder OUT/model of `label --save-model`")
    parser.add_argument("images", type=Path, help="a folder, a text file with a path a line, or an image")
    parser.add_argument("--out", type=Path, help="a CSV file; by default the labels are printed")
    parser.add_argument("--device", help="such as cpu or cuda; by default the GPU where there is one")
    parser.add_argument("--reject-above", type=_score, metavar="SCORE", help="leave the label of images with a higher unfitness empty")
    parser.add_argument("--floor", type=float, help="of a model with a taxonomy, if not that which it was kept with")
    parser.add_argument("--every", type=_seconds, default=1.0, metavar="SECONDS", help="of a video a frame is labelled (%(default)s)")
    parser.add_argument("--links-to", type=Path, metavar="FOLDER", help=LINKS)
    parser.add_argument("--view", metavar="NAME", help="of the model's second view, where it lies elsewhere than when the model was kept")


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the folder OUT of `label`; answers of `review` win over its labels")
    forms = ("labelstudio", "fiftyone", "imagefolder", "csv", "megadetector", "parquet")
    parser.add_argument("--to", choices=forms, required=True, help="the form")
    parser.add_argument("--out", type=Path, required=True, help="a new folder; nothing is overwritten")
    media = parser.add_mutually_exclusive_group()
    for action, does in (("copy", "copy images into the export"), ("link", "the same by symbolic links")):
        media.add_argument(f"--{action}", dest="media", action="store_const", const=action, help=f"{does} (imagefolder, fiftyone)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="where the images lie now, if not where they were labelled")
    parser.add_argument("--url", metavar="PREFIX", help="labelstudio: what stands before the path of an image; by default its local files")


def label(given: argparse.Namespace) -> int:
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
    flagged = [f"{int(issue.flags.sum()):,} {issue.kind.replace('_', ' ')}" for issue in outcome.issues if issue.flags.any()]
    if flagged:
        print(f"to look at: {', '.join(flagged)} images; issues.csv names them")
    if outcome.left_out:
        print(f"{len(outcome.left_out):,} files have no label: left_out.csv says why")
    if outcome.unlike:
        print(outcome.unlike, file=sys.stderr)
    print(*outcome.trust.told, *([outcome.groups.told] if outcome.groups and outcome.groups.told else []), sep="\n")
    print(f"{len(outcome.names):,} images are labelled; to look at them, open {written['report.html']} in a browser")
    return 0


def encode(given: argparse.Namespace) -> int:
    from gta.label.encode import encode

    print(encode(**{name: value for name, value in vars(given).items() if name != "command"}))
    return 0


def review(given: argparse.Namespace) -> int:
    from gta.label import answers, review, server

    if given.compare:
        print(answers.compare(answers.read(given.folder / answers.FILE)))
        return 0
    if given.images < 1:
        raise ValueError(f"--images {given.images}: a round has at least one image")
    sitting = review.Review(given.folder, given.reviewer)
    if given.read:
        print(f"{review.read_round(sitting, given.read):,} new answers in {sitting.file}")
    else:
        items = sitting.second(given.images) if given.again else sitting.round(given.by, given.images, given.seed)
        if not items:
            print("no image is left to ask about")
            return 0
        if given.file:
            review.write_round(sitting, items, given.folder / "round.csv")
            said = f"a class, {answers.NONE} or {answers.UNSURE}"
            print(f"fill the column `label` of {given.folder / 'round.csv'}: {said}; --read takes it over")
            return 0
        if not all(item.path in sitting.mine for item in items):  # else a round that was answered and not learnt from
            server.sit(sitting, items, given.port)
    print(review.learn(sitting))
    sitting.done()
    return 0


def predict(given: argparse.Namespace) -> int:
    from gta.files import write_atomically
    from gta.label.predict import predict

    how = {"reject_above": given.reject_above, "links_to": given.links_to, "view": given.view, "floor": given.floor, "every": given.every}
    text, left_out = predict(given.model, given.images, given.device, **how)
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


def export(given: argparse.Namespace) -> int:
    from gta.label.export import export

    print(export(given.folder, given.to, given.out, given.media, given.images, given.url))
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


def _seconds(text: str) -> float:
    """A time from one frame to the next."""
    if not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no time from one frame to the next; give seconds above 0")
    return float(text)


def _score(text: str) -> float:
    """A number that another can be above."""
    if not math.isfinite(float(text)):
        raise argparse.ArgumentTypeError(f"no image can be above or below {text}; give a number, such as 0.6")
    return float(text)
