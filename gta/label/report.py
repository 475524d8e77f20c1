"""The page and the model card of a run on a user's images.

The page is one HTML file that opens from disk. It contains its pictures and no script, and a content security policy forbids to load
anything else. Names of files and classes are untrusted text: they are escaped, isolated in their writing direction, and control
characters are made visible. The number of pictures is limited, so that the page of 50,000 images stays readable.
"""

import base64
import io
import os
import re
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import jinja2
import torch
from PIL import Image
from torch import Tensor

from gta.attributes import Bank
from gta.generate import confused_pairs
from gta.label.glance import glance, steps
from gta.label.jobs import Job
from gta.label.run import Outcome
from gta.label.trust import measured_elsewhere
from gta.labels import answer, likeliest, share_of
from gta.names import fill
from gta.scores.results import VERSIONS

PICTURES = 1600  # in the galleries of all classes together
A_CLASS = 10  # the largest number of pictures of a class, of each kind (most certain, least certain)
NEAR, DIVIDED = 24, 20  # near duplicates, and groups whose images disagree, that are shown
SIDE = 96  # pixels
UNDECIDED = 0.5  # an image is undecided if the two largest z differ by less
ROWS = 200  # of a table on the page; the CSV files have all rows
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def shown(text: str) -> str:
    """Text with the code points of invisible characters: control characters, and those that change the writing direction."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]", lambda c: f"⟨U+{ord(c[0]):04X}⟩", text)


TEMPLATES.filters["shown"] = shown


@dataclass(frozen=True)
class Picture:
    """data: the URI of a thumbnail; href: the file, relative to the page; name: of the file; notes: lines under the picture."""

    data: str
    href: str
    name: str
    notes: list[str]


@dataclass
class _Page:
    """The data of the page. labels: the class of each image, -1 if it was rejected."""

    job: Job
    outcome: Outcome
    labels: Tensor = field(init=False)
    top: Tensor = field(init=False)  # the two likeliest classes of each image
    cache: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.z, self.names = self.outcome.result.held, self.job.classes.names
        self.labels, self.clip = answer(self.z), answer(self.outcome.clip)
        if self.job.options.reject_above is not None:
            self.labels[self.outcome.unfitness > self.job.options.reject_above] = -1
        self.top = likeliest(self.z, 2)
        values = share_of(self.z, self.top)
        self.confidence, self.second = values[:, 0], self.top[:, -1]
        self.margin = (values[:, 0] - values[:, 1]).abs() if len(self.names) > 1 else self.confidence

    def pictures(self, rows: Sequence[int] | Tensor, note: str = "") -> list[Picture]:
        """The pictures of images. note: `unfitness`, `change` or `pair`; otherwise the notes are confidence and runner-up."""
        return [self._picture(int(i), note) for i in rows]

    def _picture(self, i: int, note: str) -> Picture:
        label, second = self.names[int(self.top[i, 0])], self.names[int(self.second[i])]
        notes = {
            "unfitness": [f"{float(self.outcome.unfitness[i]):.3f}", label],
            "pair": [f"{float(self.confidence[i]):.2f} {label}", f"{float(self.confidence[i] - self.margin[i]):.2f} {second}"],
            "change": [self.names[int(self.clip[i])], f"→ {label}"],
        }
        told = notes.get(note) or [f"{float(self.confidence[i]):.2f}", *([f"or {second}"] if float(self.margin[i]) < 0.99 else [])]
        if i not in self.cache:
            self.cache[i] = thumbnail(self.outcome.images.pixels[i])
        relative = os.path.relpath(self.outcome.paths[i], self.job.out)
        return Picture(self.cache[i], urllib.parse.quote(os.fsencode(relative)), self.outcome.names[i], told)

    def sizes(self) -> list[dict]:
        """One row for each class, the largest class first."""
        clip = Counter(self.clip.tolist())
        counts = Counter(self.labels.tolist())
        most = max(counts.values())
        rows = []
        for j, name in enumerate(self.names):
            mean = float(self.confidence[self.labels == j].mean()) if counts[j] else None
            rows.append({"class": j, "name": name, "count": counts[j], "clip": clip[j], "mean": mean, "width": 100 * counts[j] / most})
        return sorted(rows, key=lambda row: (-row["count"], row["class"]))

    def galleries(self, sizes: list[dict]) -> list[dict]:
        """The most and the least certain images of the largest classes."""
        there = [row for row in sizes if row["count"]][: PICTURES // 4]
        each = max(2, min(A_CLASS, PICTURES // (2 * max(1, len(there)))))
        found = []
        for row in there:
            rows = (self.labels == row["class"]).nonzero().flatten()
            order = rows[self.margin[rows].argsort(descending=True, stable=True)]
            least = order[each:].flip(0)[:each]
            found.append({**row, "most": self.pictures(order[:each]), "least": self.pictures(least)})
        return found

    def pairs(self) -> list[dict]:
        """The most confused pairs: their least decided images, and the texts that distinguish each class from the other."""
        bank = self.outcome.result.attributes
        top = self.top.sort(dim=1).values
        found = []
        for a, b, count in confused_pairs(self.z, UNDECIDED)[:12]:
            rows = ((top == torch.tensor([a, b])).all(1) & (self.margin < UNDECIDED)).nonzero().flatten()
            rows = rows[self.margin[rows].argsort(stable=True)][:8]
            told = [
                {"name": self.names[x], "phrases": tells_apart(bank, x, y), "why": why_nothing(bank, x, y)} for x, y in ((a, b), (b, a))
            ]
            found.append({"a": self.names[a], "b": self.names[b], "count": count, "pictures": self.pictures(rows, "pair"), "told": told})
        return found

    def changed(self) -> dict:
        """The images whose label differs from CLIP's: how many of each kind, and the most certain ones."""
        before, after = self.clip, self.top[:, 0]
        rows = (before != after).nonzero().flatten()
        kinds = Counter(zip(before[rows].tolist(), after[rows].tolist(), strict=True)).most_common(20)
        rows = rows[self.margin[rows].argsort(descending=True, stable=True)]
        told = [(self.names[a], self.names[b], count) for (a, b), count in kinds]
        return {"count": len(rows), "kinds": told, "pictures": self.pictures(rows[:48], "change")}

    def unfit(self) -> dict:
        """The images with the largest unfitness, and quantiles of the score, from which a user can choose a threshold."""
        score = self.outcome.unfitness
        rows = score.argsort(descending=True, stable=True)[:32]
        cuts = [(share, float(score.quantile(share / 100))) for share in (50, 90, 95, 99)]
        return {"pictures": self.pictures(rows, "unfitness"), "cuts": cuts, "rejected": int((self.labels < 0).sum())}

    def ranks(self) -> dict | None:
        """How many images are sure at which rank, and of which parents; None without a taxonomy. Rejected images are not among them."""
        if (tree := self.job.taxonomy) is None:
            return None
        nodes, sums = (of[self.labels >= 0] for of in tree.deepest(self.z))
        known = {node: tree.rank(node) for node in nodes.unique().tolist() if node >= 0}
        levels = []
        for rank in [*reversed(tree.ranks), ""]:
            at = torch.tensor([known.get(node, "") == rank for node in nodes.tolist()], dtype=torch.bool)
            mean = float(sums[at].mean()) if rank and at.any() else None
            levels.append((rank or "none: not even the top is sure", int(at.sum()), mean))
        parents = Counter(node for node in nodes.tolist() if node >= tree.classes).most_common()
        return {"floor": tree.floor, "levels": levels, "parents": [(tree.nodes[node], known[node], count) for node, count in parents]}

    def issues(self) -> dict | None:
        """What `issues.csv` flags: near duplicates, the nearest first, each with what it is like; None where nothing is flagged."""
        flags = {issue.kind: issue for issue in self.outcome.issues if issue.flags.any()}
        if not flags:
            return None
        counts = {kind: int(issue.flags.sum()) for kind, issue in flags.items()}
        pictures: list[Picture] = []
        if (near := flags.get("near_duplicate")) is not None:
            rows = near.flags.nonzero().flatten()
            for i in rows[near.scores[rows].argsort(stable=True)][:NEAR].tolist():
                pictures.append(replace(self._picture(i, ""), notes=["like", near.about[i].rpartition("/")[2]]))
        return {"near": counts.get("near_duplicate", 0), "unfit": counts.get("unfit", 0), "pictures": pictures}

    def groups(self) -> dict | None:
        """How many groups there are, and those whose images disagree, the most first; None without groups."""
        if self.outcome.groups is None:
            return None
        rows = self.outcome.groups.rows(self.z, (self.labels >= 0).tolist(), self.names)
        split = sorted((row for row in rows if row[5] < row[4]), key=lambda row: (row[5] / row[4], -row[4]))
        counts = {"count": len(rows), "images": sum(row[4] for row in rows), "divided": len(split)}
        return {**counts, "split": split[:DIVIDED], "told": self.outcome.groups.told}


def render(job: Job, outcome: Outcome) -> str:
    """The page as HTML."""
    page = _Page(job, outcome)
    sizes, undecided = page.sizes(), int((page.margin < UNDECIDED).sum())
    return TEMPLATES.get_template("report.html.j2").render(
        images=len(outcome.names),
        classes=len(page.names),
        examples=len(job.support[0]),
        empty=sum(not row["count"] for row in sizes),
        unlike=outcome.unlike,
        confidence=float(page.confidence.mean()),
        sizes=sizes,
        glance=glance(sizes, undecided),
        steps=steps(job.out, undecided, bool(outcome.trust.curve), outcome.unlike),
        galleries=page.galleries(sizes),
        pairs=page.pairs(),
        changed=page.changed(),
        unfit=page.unfit(),
        ranks=page.ranks(),
        issues=page.issues(),
        groups=page.groups(),
        trust=outcome.trust,
        elsewhere=measured_elsewhere(outcome.result.encoder.weights_sha256),
        left_out=outcome.left_out,
        reasons=Counter(reason.partition(":")[0] if reason.startswith(".") else reason[:80] for _, reason in outcome.left_out).most_common(
            8
        ),
        rows=ROWS,
        undecided=UNDECIDED,
        facts=_facts(job, outcome),
        size=outcome.images.pixels.shape[-1],
    )


def card(job: Job, outcome: Outcome) -> str:
    """The model card in Markdown. Of the names that a user gave, it contains only those of the encoders."""
    return TEMPLATES.get_template("card.md.j2").render(
        facts=_facts(job, outcome), images=len(outcome.names), classes=len(job.classes.names), view=outcome.view
    )


def thumbnail(pixels: Tensor) -> str:
    """A data URI of the image that the encoder sees, uint8 (3, H, W): PNG if it is tiny, else JPEG."""
    image, text = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    kind = "png" if max(image.size) < SIDE else "jpeg"
    image.save(text, kind, quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(text.getvalue()).decode()}"


def tells_apart(bank: Bank, a: int, b: int) -> list[str]:
    """The phrases about class a against class b; if there are none, those about class a alone. They are without the words around."""
    before, _, after = fill(bank.sentence, name=bank.class_names[a]).partition("{attribute}")
    about = [text for text in bank.attributes[a] if text.against == bank.class_names[b]]
    about = about or [text for text in bank.attributes[a] if text.source != "template" and text.against is None]
    return [text.text.removeprefix(before).removesuffix(after) for text in about]


def why_nothing(bank: Bank, a: int, b: int) -> str:
    """Why there is no phrase about class a, also against class b: nobody was asked, or nothing of the answers could be used."""
    name, other = bank.class_names[a], bank.class_names[b]
    reasons = [
        line.text if line.reason == "gave up" else line.reason
        for line in bank.dropped
        if line.name == name and line.against in (None, other)
    ]
    if reasons:
        return f"the language model was asked, and gave no answer that can be used ({', '.join(dict.fromkeys(reasons))})"
    asked = any({a, b} == {x, y} for _, x, y, _ in bank.asked)
    return "the language model was asked, and said nothing new" if asked else "no language model was asked about it"


def _facts(job: Job, outcome: Outcome) -> list[tuple[str, str]]:
    """How a run was made: its choices, weights, questions, time, seed and versions."""
    encoder, result = outcome.result.encoder, outcome.result
    asked = len(result.attributes.asked)
    return [
        *((what, value) for what, value, _ in job.choices if what != "results"),
        ("weights", f"{encoder.source}, sha256 {encoder.weights_sha256[:12]} before it adapted"),
        *([] if (view := outcome.view) is None else [("second view's weights", f"{view.source}, sha256 {view.weights_sha256[:12]}")]),
        ("questions", f"{outcome.usage}; {asked} pairs" if outcome.usage else f"none asked here; {asked} pairs in the attributes"),
        ("time", f"{result.seconds:.0f} seconds in {len(result.history)} iterations"),
        ("seed", str(job.settings.seed)),
        ("versions", VERSIONS),
    ]
