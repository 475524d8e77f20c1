"""The options of a user who labels images, and the choices made for the rest; each choice is printed with the way to change it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from gta import encoders
from gta.adapt import natural_augmentation
from gta.attributes import Bank
from gta.encoders.encoder import Encoder
from gta.encoders.vision import View, check_view, load_view
from gta.files import ROOT, closed_to
from gta.label import groups
from gta.label.answers import FILE, Answer
from gta.label.inputs import Classes, Found, find_images, read_classes, read_labelled
from gta.label.taxonomy import FLOOR, Taxonomy, read_parents
from gta.label.trust import read_reviews
from gta.llm import prompts
from gta.llm.address import Address, parted
from gta.llm.sampling import Sampling
from gta.names import nearest
from gta.settings import SIZES, Checked, Settings, SizesName
from gta.transduct.from_texts import entries_held, refuse_sparse
from gta.worlds import aviary, digits
from gta.worlds.fieldguide import refuse_free
from gta.worlds.glyphs import DIGITS
from gta.worlds.settings import settings_for
from gta.worlds.views import BirdView, GlyphView

EMBEDDED = "embedded"
ON_A_CPU = 10  # iterations with a real CLIP where there is no GPU; the paper's number is 30
NONE, FIELDGUIDE, REPLAY = "none", "fieldguide", "replay:"
GLYPHS, AVIARY = "glyphs", "aviary"  # the domains that the embedded encoders know
KEPT = ("images", "embeddings", "frames", "ledger", "state", "model")  # sub-folders that a run makes in its folder
PHOTO = ("a photo of a {}.", "a photo of a {name} with {attribute}.")


class Options(Checked):
    """The options of `python -m gta label` and its notebook. images: a folder, or a file that lists images; classes: a text file, or YAML;
    encoder, pretrained, revision: as in `gta.encoders.load`; view: a second encoder, which sees images alone, as in
    `gta.encoders.vision.load_view`; class_sizes: what holds the sizes of classes (docs/views-and-sizes.md); out: the folder for results;
    labelled: a CSV of examples; llm: `none`, `replay:FILE` (the attributes.json of a run), `MODEL@URL`, the URL of an endpoint that
    serves one model, or `fieldguide` for the glyphs; device, iterations: None chooses a suitable value; max_calls: the largest number of
    requests of a run; sampling: how an endpoint is asked; price: of a million prompt tokens and of a million completion tokens;
    reject_above: an image with a larger unfitness gets no label; taxonomy: a CSV with the columns child,parent; floor: what z summed up
    the tree must be above, as in `gta.label.taxonomy`; reviewed: a CSV of reviewed images, by default `reviews.csv` in `out`, if it is
    there; risk: the wanted share of wrong labels among those accepted, as in `gta.label.abstention`; groups: a rule or a CSV of images that
    share evidence, as in `gta.label.groups`; every: seconds from one frame of a video to the next; links_to: a folder outside to which
    links may lead; save_model: whether the adapted encoder is saved; smoke: run two iterations only."""

    images: str
    classes: str
    encoder: str
    out: str
    labelled: str | None = None
    pretrained: str | None = None
    revision: str | None = None
    view: str | None = None
    class_sizes: SizesName = "free"
    llm: str = NONE
    device: str | None = None
    iterations: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    max_calls: int | None = Field(None, ge=0)
    sampling: Sampling = Sampling()
    price: tuple[float, float] | None = None
    reject_above: float | None = Field(None, allow_inf_nan=False)
    taxonomy: str | None = None
    floor: float = Field(FLOOR, ge=FLOOR, lt=1)
    reviewed: str | None = None
    risk: float = Field(0.1, gt=0, lt=1)
    groups: str | None = None
    every: float = Field(1.0, gt=0, allow_inf_nan=False)
    links_to: str | None = None
    save_model: bool = False
    smoke: bool = False

    def under(self, root: Path) -> "Options":
        """The same options with each relative path placed below `root`, because a notebook may run in any folder."""
        given = {name: getattr(self, name) for name in ("images", "classes", "out", "labelled", "taxonomy", "reviewed", "links_to")}
        if self.groups and (root / self.groups).is_file():  # else it is a rule
            given["groups"] = self.groups
        return self.model_copy(update={name: str(root / path) for name, path in given.items() if path is not None})


@dataclass(frozen=True)
class Job:
    """A checked job, ready to run. found: images to label; support: labelled images and their classes; choices: the name of each
    choice, its value, and how to change it; taxonomy: the tree above the classes, if there is one; reviews: what reviewers said."""

    options: Options
    found: Found
    classes: Classes
    support: tuple[list[Path], list[int]]
    settings: Settings
    device: str
    choices: list[tuple[str, str, str]]
    taxonomy: Taxonomy | None = None
    reviews: Sequence[Answer] = ()

    @property
    def out(self) -> Path:
        return Path(self.options.out)

    @property
    def augmentation(self) -> Callable[[int], Callable[[Tensor], Tensor]]:
        """The augmentation of the domain. Glyphs have one without flips, which change a character; drawn birds have their own too."""
        own: dict[str, Callable[[int], nn.Module]] = {GLYPHS: GlyphView, AVIARY: BirdView}
        return own.get(self.classes.domain or "", natural_augmentation)

    @property
    def replayed(self) -> Path | None:
        """The file of the bank to replay, or None."""
        return Path(self.options.llm.removeprefix(REPLAY)) if self.options.llm.startswith(REPLAY) else None

    def encoder(self) -> Encoder:
        """The encoder that the user named. Raises as `gta.encoders.load` does."""
        given = self.options
        return encoders.load(
            given.encoder, pretrained=given.pretrained, revision=given.revision, device=self.device, embedded=self._embedded
        )

    def view(self) -> View | None:
        """The second view that the user named. Raises as `gta.encoders.vision.load_view` does."""
        return load_view(self.options.view, device=self.device, embedded=self._embedded) if self.options.view else None

    @property
    def _embedded(self) -> Path:
        """The folder of the encoders that `embedded` means."""
        return aviary.ENCODERS if self.classes.domain == AVIARY else digits.ENCODERS

    def plain_bank(self) -> Bank:
        """The bank of class names in their template."""
        assert self.classes.template and self.classes.sentence  # `prepare` has chosen them
        return Bank.from_template(self.classes.names, self.classes.template, self.classes.sentence)

    def bank(self) -> Bank:
        """The bank before any question: a class with attributes from the user has these instead of its template text."""
        bank = self.plain_bank()
        for name, phrases in self.classes.attributes.items():
            bank = bank.add(self.classes.names.index(name), phrases, source="imported", origin=self.options.classes)
        return bank.without_templates()

    @property
    def held(self) -> int | None:
        """How many classes of each image are held, None for all."""
        return entries_held(None, len(self.found.paths), len(self.classes.names))

    def check_size(self) -> None:
        """Raise ValueError for what needs z whole, where it is too large for that."""
        if self.held is not None:
            needs = {"--view": self.options.view, "--class-sizes": self.options.class_sizes != "free"}
            refuse_sparse(len(self.found.paths), len(self.classes.names), needs, "label a part of the images")

    def __str__(self) -> str:
        left = f", {len(self.found.left_out)} other files left out" if self.found.left_out else ""
        examples = f", {len(self.support[0])} labelled examples" if self.support[0] else ""
        seen = self.found.videos
        videos = f", {len(seen):,} videos (a frame every {self.options.every:g} seconds is an image more)" if seen else ""
        head = f"{len(self.found.paths):,} images{videos}{left}, {len(self.classes.names):,} classes{examples}"
        hints = (f"  {what:16}{value}" + (f"   (change: {how})" if how else "") for what, value, how in self.choices)
        return "\n".join([head, *hints])


def prepare(options: Options) -> Job:
    """Read the user's files and choose everything that is left open. Raises ValueError and FileNotFoundError, with file and line."""
    out = _out(options)
    classes = _with_template(read_classes(Path(options.classes)), options)
    found = find_images(Path(options.images), besides=out, links_to=Path(options.links_to) if options.links_to else None)
    support: tuple[list[Path], list[int]] = ([], [])
    if options.labelled:
        support = read_labelled(Path(options.labelled), found.base, classes.names)
        found = found.without(support[0])
        if not found.paths and not found.videos:
            raise ValueError(f"{options.labelled}: every image of {options.images} has a label already")
    device = _device(options.device)
    slow = device == "cpu" and options.encoder != EMBEDDED
    iterations = 2 if options.smoke else options.iterations or (ON_A_CPU if slow else None)
    changes = {"seed": options.seed, "generate": options.llm != NONE, **SIZES[options.class_sizes]}
    changes |= {"iterations": iterations} if iterations else {}
    settings = settings_for(options.encoder, classes.domain or "", **changes)
    job = Job(options, found, classes, support, settings, device, [], _taxonomy(classes, options), _reviews(classes, options))
    _check(job)
    job.choices.extend(_choices(job))
    return job


def _out(options: Options) -> Path:
    """The folder for results. Raises ValueError if it is a file, cannot be written, or is a folder of images to label."""
    out, images = Path(options.out), Path(options.images).resolve()
    if out.exists() and not out.is_dir():
        raise ValueError(f"out {str(out)!r} is a file; name a folder for the results")
    if images in (out.resolve(), *(out.resolve() / name for name in KEPT)):
        raise ValueError(f"out {str(out)!r} would mix the results with the images of {options.images}; name another folder")
    if (closed := closed_to(out)) is not None:
        raise ValueError(f"out {str(out)!r}: nothing can be written in {closed}; name another folder")
    return out


def _device(name: str | None) -> str:
    """The named device; without a name, the GPU if there is one, else the CPU. Raises ValueError if the device cannot be used."""
    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {chosen!r} cannot be used here; leave it out, or name cpu. {str(error).splitlines()[0]}") from None
    return chosen


def _with_template(classes: Classes, options: Options) -> Classes:
    """Classes with domain, template and sentence filled in: those for photographs, or for the embedded encoder words that it knows."""
    domain = classes.domain or (GLYPHS if options.encoder == EMBEDDED else "general")
    prompts.load(domain)  # raises for an unknown domain
    template, sentence = PHOTO
    if domain == GLYPHS:
        kind = "digit" if set(classes.names) <= set(DIGITS) else "letter" if not set(classes.names) & set(DIGITS) else "character"
        template, sentence = f"a picture of the {kind} {{}}", f"a picture of the {kind} {{name}} with {{attribute}}"
    elif domain == AVIARY:
        template, sentence = aviary.BIRD, aviary.SENTENCE
    filled = {"domain": domain, "template": classes.template or template, "sentence": classes.sentence or sentence}
    return classes.model_copy(update=filled)


def _taxonomy(classes: Classes, options: Options) -> Taxonomy | None:
    """The tree of the classes file or of the CSV, or None. Raises ValueError, with the file, for a tree that cannot be, or two."""
    if not options.taxonomy:
        if classes.ranks and not classes.parents:
            raise ValueError(f"{options.classes}: ranks without a parent; say under a class or in `parents` what it belongs to")
        return Taxonomy.of(classes.names, classes.parents, classes.ranks, options.floor) if classes.parents else None
    if classes.parents:
        raise ValueError(f"parents stand in {options.classes} and in {options.taxonomy}; leave --taxonomy out, or the others")
    parents = read_parents(Path(options.taxonomy))
    try:
        tree = Taxonomy.of(classes.names, parents, classes.ranks, options.floor)
    except ValueError as error:
        raise ValueError(f"{options.taxonomy}: {error}") from None
    if not tree.parents:
        raise ValueError(f"{options.taxonomy}: none of its {len(parents)} children is a class of {options.classes}")
    return tree


def _reviews(classes: Classes, options: Options) -> list[Answer]:
    """What reviewers said: in the file that the user named, or where `review` leaves it. Raises as `read_reviews` does."""
    file = Path(options.reviewed) if options.reviewed else Path(options.out) / FILE
    return read_reviews(file, classes.names) if options.reviewed or file.is_file() else []


def _check(job: Job) -> None:
    """Raise ValueError now for what would otherwise stop the run after it has read all images."""
    llm = job.options.llm
    if job.options.groups is not None:
        groups.check(job.options.groups)
    if job.options.view is not None:
        check_view(job.options.view)
    job.check_size()
    if "://" in llm and job.replayed is None:  # checked first, before anything prints the URL
        Address.of(llm) if llm.casefold().startswith(("http://", "https://")) else parted(llm)
        refuse_free(llm, job.options.encoder)
    if job.replayed is not None:
        if Bank.load(job.replayed).class_names != job.classes.names:
            raise ValueError(f"{job.replayed}: a bank of other classes than {job.options.classes}, or in another order")
    elif llm == FIELDGUIDE and job.classes.domain != GLYPHS:
        raise ValueError("llm 'fieldguide' knows printed characters alone; name an endpoint, MODEL@URL, or none")
    elif llm not in (NONE, FIELDGUIDE) and "://" not in llm:
        known = f"{NONE}, {REPLAY}FILE, MODEL@URL (such as llama3.1@http://localhost:11434/v1), URL"
        raise ValueError(f"llm {llm!r} is none of: {known}{nearest(llm, (NONE, 'fieldguide'))}")
    if job.options.encoder == EMBEDDED:
        try:
            bank = job.bank() if job.replayed is None else Bank.load(job.replayed)
            job.encoder().tokens([text for of_class in bank.texts for text in of_class])
        except ValueError as error:
            raise ValueError(
                "the encoder 'embedded' is for digits and capital letters alone, and with `domain: aviary` in a YAML file of classes for "
                "the birds that this project draws; for photographs name a real CLIP, such as ViT-B/16. "
                f"{str(error).partition('; all its words')[0]}"
            ) from None


def _choices(job: Job) -> list[tuple[str, str, str]]:
    """The name of each choice, its value, and how to change it."""
    given, settings = job.options, job.settings
    embedded = given.encoder == EMBEDDED
    knows = "drawn birds" if job.classes.domain == AVIARY else "digits and capital letters"
    why = "as on the embedded benchmark" if embedded else "the paper's 30 on a GPU, 10 on a CPU"
    llm = {NONE: "none: class names alone", FIELDGUIDE: "fieldguide, a small faulty guide of glyphs"}.get(given.llm, given.llm)
    change_view, change_sizes = ("--view", "--class-sizes") if job.held is None else ("", "")  # these need z whole
    out = job.out.relative_to(ROOT) if job.out.is_relative_to(ROOT) else job.out
    return [
        ("encoder", given.encoder + (f", which knows {knows} alone" if embedded else ""), ""),
        ("second view", f"{given.view}, which sees images alone and is never trained" if given.view else "none", change_view),
        ("device", f"cpu, {torch.get_num_threads()} threads" if job.device == "cpu" else job.device, "--device"),
        ("iterations", f"{settings.iterations}" + ("" if given.iterations else f" ({why})"), "--iterations"),
        ("batch", f"{settings.batch_size} images to adapt, as in the paper; to encode, as many as the memory holds", ""),
        ("class sizes", given.class_sizes, change_sizes),
        *([] if job.held is None else [("held", f"of each image the {job.held} likeliest classes and the sum of all others", "")]),
        ("template", repr(job.classes.template), "template and sentence in a YAML file of classes"),
        *([("taxonomy", str(job.taxonomy), "parent in a YAML file of classes, --taxonomy, --floor")] if job.taxonomy else []),
        *([("groups", given.groups, "--groups")] if given.groups else []),
        ("domain", job.classes.domain or "", "domain in a YAML file of classes; gta/llm/prompts.yaml lists them"),
        ("language model", llm, "--llm"),
        ("results", f"{out}, where the same command goes on after an interruption", ""),
    ]
