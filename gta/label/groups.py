"""Images that share evidence: the pictures of a burst, the frames of a video, what a column of the user's says.

Where the images of a group show one class y, and given y are as good as independent, p(y | all) is proportional to the product of their
z_i under equal sizes of classes. Pictures of a burst are nearly copies, so that the product counts one look many times. The logarithmic
pool, z proportional to exp(mean_i log z_i), counts a group as one image: it has the answer of the product, and it is the distribution q
with the least sum_i KL(q || z_i) (Genest and Zidek, Stat. Sci. 1986, section 2). It is worth nothing where a group mixes classes; there
is no option for that, and `benchmarks/groups.py` measures both.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from gta.encoders.decode import formats
from gta.label.tables import read, table
from gta.labels import SparseZ, Z, answer, likeliest, rows_of, values_of
from gta.names import printable

BURST, FOLDER, NAME, VIDEO = "burst", "folder", "name:", "video"
GAP = 5.0  # seconds between two pictures of a burst, by default
LEAST = 1e-12  # of a z in a mean of logarithms: an image that says 0 does not outvote all others alone
EXIF, TAKEN, FRACTION = 0x8769, 36867, 37521  # tags: the Exif part, DateTimeOriginal, SubsecTimeOriginal
ENTRIES = 2**24  # of z of groups in memory together
COLUMNS = ("group", "group_label", "group_confidence")


@dataclass(frozen=True)
class Groups:
    """names: of each image's group, "" for an image that shares with nobody; told: what to tell of how they came about."""

    names: list[str]
    told: str = ""

    def columns(self, z: Z, labelled: Sequence[bool], class_names: Sequence[str]) -> list[tuple[str, str, str]]:
        """(group, its label, its confidence) of each image; an image without a group has none."""
        found = {name: (name, label, sure) for name, label, sure, *_ in self.rows(z, labelled, class_names)}
        return [found.get(name, (name, "", "")) for name in self.names]

    def summary(self, z: Z, labelled: Sequence[bool], class_names: Sequence[str]) -> str:
        """`groups.csv`: a line a group."""
        return table(("group", "label", "confidence", "runner_up", "images", "agree"), self.rows(z, labelled, class_names))

    def rows(self, z: Z, labelled: Sequence[bool], class_names: Sequence[str]) -> list[tuple[str, str, str, str, int, int]]:
        """(group, label, confidence, runner-up, how many images, how many of them have its label alone) of each group."""
        members: dict[str, list[int]] = {}
        for i, name in enumerate(self.names):
            if name and labelled[i]:
                members.setdefault(name, []).append(i)
        found, own, names = [], answer(z), list(members)
        at_once = max(1, ENTRIES // z.shape[1])
        for some in (names[start : start + at_once] for start in range(0, len(names), at_once)):
            numbers = torch.tensor([number for number, name in enumerate(some) for _ in members[name]])
            pooled = pool(rows_of(z, [i for name in some for i in members[name]]), numbers, len(some))
            for name, top, shares in zip(some, likeliest(pooled, 2).tolist(), pooled, strict=True):
                agree = int((own[members[name]] == top[0]).sum())
                label, *second = (class_names[j] for j in top)
                found.append((name, label, f"{float(shares[top[0]]):.4f}", *(second or [""]), len(members[name]), agree))
        return found


def pool(z: Z, numbers: Tensor, groups: int) -> Tensor:
    """The logarithmic pool (G, M), in float64, of z (N, M) by the number of each image's group, (N,). Of a sparse z, the classes that
    an image does not hold share what is left evenly."""
    logs = values_of(z).double().clamp_min(LEAST).log()
    sums = torch.zeros(groups, z.shape[1], dtype=torch.float64)
    if isinstance(z, SparseZ):
        others = (z.rest.double() / max(1, z.size - logs.shape[1])).clamp_min(LEAST).log()
        sums += torch.zeros(groups, dtype=torch.float64).index_add_(0, numbers, others)[:, None]
        entries = numbers[:, None] * z.size + z.classes
        sums.view(-1).index_add_(0, entries.view(-1), (logs - others[:, None]).view(-1))
    else:
        sums.index_add_(0, numbers, logs)
    return (sums / torch.bincount(numbers, minlength=groups)[:, None]).softmax(1)


def check(rule: str) -> None:
    """Raise ValueError, with what can be said, for a rule that is none and no file."""
    if rule.startswith(NAME):
        _pattern(rule)
    elif rule.startswith(f"{BURST}:"):
        _gap(rule)
    elif rule not in (BURST, FOLDER, VIDEO) and not Path(rule).is_file():
        known = f"{BURST}, {BURST}:SECONDS, {FOLDER}, {VIDEO}, {NAME}PATTERN, or a CSV with the columns path,group"
        raise ValueError(f"--groups {rule!r}: no such file, and none of {known}")


def groups_of(rule: str, names: Sequence[str], paths: Sequence[Path], videos: Sequence[str] = ()) -> Groups:
    """The groups of images by a rule or a file.

    names, paths: of the images, as in `predictions.csv` and on the disk; videos: the video of each image, "" of one that is no frame.
    burst: pictures of one folder, by the time in their Exif data, with no gap above so many seconds. folder: all of a folder. name: what
    the first bracket of a regular expression finds in the name. video: the frames of a video alone. The frames of a video are one group
    under every rule but a file's. Raises ValueError, with the line, for a file that cannot be right.
    """
    check(rule)
    if rule.startswith(BURST):
        found = _bursts(names, paths, videos, _gap(rule))
    elif rule == FOLDER:
        found = Groups([os.path.dirname(name) or "." for name in names])
    elif rule.startswith(NAME):
        matches = [_pattern(rule).search(name) for name in names]
        found = Groups([(match[1] or "") if match else "" for match in matches], _without(sum(not match for match in matches), "match it"))
    elif rule == VIDEO:
        found = Groups([""] * len(names))
    else:
        return _of_file(Path(rule), names)
    return Groups([video or name for video, name in zip(videos or [""] * len(names), found.names, strict=True)], found.told)


def _bursts(names: Sequence[str], paths: Sequence[Path], videos: Sequence[str], gap: float) -> Groups:
    """Each is called by its first picture."""
    still = [i for i in range(len(names)) if not (videos and videos[i])]
    times = {i: moment for i in still if (moment := taken(paths[i])) is not None}
    order = sorted(times, key=lambda i: (os.path.dirname(names[i]), times[i], names[i]))
    found = [""] * len(names)
    for place, i in enumerate(order):
        before = order[place - 1] if place else i
        near = os.path.dirname(names[before]) == os.path.dirname(names[i]) and times[i] - times[before] <= gap
        found[i] = found[before] if near and place else names[i]
    return Groups(found, _without(len(still) - len(times), "say when they were taken"))


def taken(path: Path) -> float | None:
    """Seconds from the time of a picture's Exif data, local to its camera; None where it says none."""
    try:
        with Image.open(path, formats=formats()) as image:
            exif = image.getexif().get_ifd(EXIF)
        moment = datetime.strptime(str(exif[TAKEN]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except (OSError, ValueError, KeyError, SyntaxError, Image.DecompressionBombError):
        return None
    digits = str(exif.get(FRACTION, "")).strip("\0 ")
    return (moment - datetime(1970, 1, 1)).total_seconds() + (float(f"0.{digits}") if digits.isdecimal() else 0.0)


def _of_file(file: Path, names: Sequence[str]) -> Groups:
    rows = [(line, row["path"] or "", (row["group"] or "").strip()) for line, row in read(file, ("path", "group"))[1]]
    known: dict[str, str] = {}
    for line, path, group in rows:
        if known.setdefault(printable(path), group) != group:
            raise ValueError(f"{file}, line {line}: {path!r} is in two groups, {known[path]!r} and {group!r}; leave one of them")
    if rows and not known.keys() & set(names):
        raise ValueError(
            f"{file}: none of its {len(known):,} paths is an image of the run, such as {names[0]!r}; paths are as in predictions.csv"
        )
    return Groups([known.get(name, "") for name in names], _without(sum(name not in known for name in names), f"stand in {file}"))


def _pattern(rule: str) -> re.Pattern:
    pattern = rule.removeprefix(NAME)
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--groups {rule!r}: no regular expression: {error}") from None
    if not found.groups:
        raise ValueError(f"--groups {rule!r}: no bracket says what the group is, as in {NAME}(.*)_[0-9]+")
    return found


def _gap(rule: str) -> float:
    seconds = rule.removeprefix(BURST).removeprefix(":")
    try:
        gap = float(seconds) if seconds else GAP
    except ValueError:
        gap = -1.0
    if not 0 <= gap < float("inf"):
        raise ValueError(f"--groups {rule!r}: {seconds!r} is no number of seconds, as in {BURST}:{GAP:g}")
    return gap


def _without(count: int, what: str) -> str:
    return f"{count:,} images do not {what} and are in no group" if count else ""
