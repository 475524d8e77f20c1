"""Run the method on a user's own images.

The user's folder keeps everything that costs time or money (`state`, `images`, `embeddings`, `ledger`). So the same call continues after
an interruption, and a call with more images or one more class computes and asks only what is new.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gta import loop
from gta.attributes import Bank
from gta.encoders.embeddings import features_of
from gta.encoders.images import Images, load_images
from gta.encoders.vision import View, view_features
from gta.generate import describe, pairs_to_ask
from gta.label import issues as found_issues
from gta.label.groups import VIDEO, Groups, groups_of
from gta.label.inputs import name_of, readable
from gta.label.jobs import NONE, Job
from gta.label.models import Classifier
from gta.label.taxonomy import SiblingsFirst
from gta.label.texts import check_texts
from gta.label.trust import UNKNOWN, Trust, judge
from gta.label.videos import with_frames
from gta.labels import Z, unlike_the_list
from gta.llm import prompts
from gta.llm.chat import ChatModel, Usage
from gta.llm.endpoint import only_model
from gta.llm.ledger import Ledger
from gta.state import Result
from gta.transduct import sparse, text_prior
from gta.transduct.neighbors import large_graph
from gta.worlds.fieldguide import language_model

STATE = "state"


@dataclass(frozen=True)
class Outcome:
    """images: the rows of `result`; names, paths: of these images; left_out: files without a label, with the reason; clip: what
    the original encoder says from the class names alone, in the form of z; unfitness: (N,), as in `gta.label.unknowns`; classifier: it
    labels new images; usage: requests and tokens of the language model, None without one; view: the second view, if there is one; trust:
    what reviews say of the labels, without any that nobody knows; groups: of images that share evidence, if there are some;
    issues: near duplicates and unfit images."""

    result: Result
    images: Images
    names: list[str]
    paths: list[Path]
    left_out: list[tuple[str, str]]
    clip: Z
    unfitness: Tensor
    classifier: Classifier
    usage: Usage | None
    view: View | None = None
    trust: Trust = UNKNOWN
    groups: Groups | None = None
    issues: Sequence[found_issues.Issue] = ()

    @property
    def unlike(self) -> str:
        """What to look at where the sizes of the classes do not look like the list of names, with what to try, else ""."""
        told = unlike_the_list(self.result.held)
        if not told:
            return ""
        mend = "look at --class-sizes" if isinstance(self.result.held, Tensor) else "take the others out"
        return f"{told}: if these names do not all occur in the folder, {mend}"


def run(job: Job, progress: bool = True, state: str = STATE) -> Outcome:
    """Label all images. After an interruption, the same call continues. state: the sub-folder of the results for checkpoints. Raises the
    errors of encoder, images and language model."""
    encoder = job.encoder()
    view = job.view()
    for line in check_texts(job, encoder):
        print(line, file=sys.stderr)
    found, videos = with_frames(job.found, job.out, job.options.every)
    job = replace(job, found=found.without(job.support[0]) if videos else found)  # a frame may be an example too, after a review
    job.check_size()  # now that frames count
    images = load_images(job.found.paths, encoder, store=job.out / "images", skip_bad=True, progress=progress)
    examples = load_images(job.support[0], encoder, store=job.out / "images", progress=progress) if job.support[0] else None
    parts = [images] if examples is None else [images, examples]
    features = torch.cat([features_of(encoder, part, job.out / "embeddings", progress) for part in parts])
    kept, left_out = readable(job.found, images)
    second = None if view is None else _second(job, view, kept, progress)
    questions = prompts.load(job.classes.domain or "general")
    plain = [encoder.encode_texts(texts) for texts in job.plain_bank().texts]
    with _language_model(job) as llm:
        bank = job.bank() if job.replayed is None else Bank.load(job.replayed)
        result = loop.run(
            encoder,
            images,
            job.classes.names,
            job.settings,
            attributes=bank if llm is None else describe(bank, llm, questions),
            llm=llm,
            questions=questions,
            select_pairs=pairs_to_ask if llm is None or job.taxonomy is None else SiblingsFirst.of(job.taxonomy),
            support=None if examples is None else (examples, torch.tensor(job.support[1])),
            augment=job.augmentation(encoder.image_size),
            features=features,
            view=second,
            affinity=large_graph,
            checkpoints=job.out / state,
            progress=progress,
        )
    prior = text_prior if isinstance(result.held, Tensor) else sparse.text_prior
    classifier = Classifier.of(result, 1.0 if examples is None else 0.5, view, job.taxonomy)
    paths, rule = [job.found.paths[i] for i in kept], job.options.groups or (VIDEO if videos else None)
    names, unfit, reject = [job.found.names[i] for i in kept], classifier.unfitness(result.features), job.options.reject_above
    groups = None if rule is None else groups_of(rule, names, paths, [videos.get(name, "") for name in names])
    labelled = [reject is None or score <= reject for score in unfit.tolist()]
    return Outcome(
        result,
        images,
        names,
        paths,
        left_out,
        prior(features[: len(images)].to(encoder.device), plain, encoder.logit_scale).cpu(),
        unfit,
        classifier,
        getattr(llm, "usage", None),
        view,
        judge(job.reviews, job.classes.names, names, result.held, labelled, job.options.risk),
        groups,
        [found_issues.near_duplicates(result.features.to(encoder.device), names), found_issues.unfit(unfit, reject)],
    )


def _second(job: Job, view: View, kept: list[int], progress: bool) -> Tensor:
    """Features (N + S, d2) of the second view: of the images that could be read, then of the examples."""
    base, (examples, _) = job.found.base, job.support
    paths = [*(job.found.paths[i] for i in kept), *examples]
    names = [*(job.found.names[i] for i in kept), *(name_of(path, base) for path in examples)]
    return view_features(view, paths, names, store=job.out / "images", kept=job.out / "embeddings", progress=progress)


@contextmanager
def _language_model(job: Job) -> Iterator[ChatModel | None]:
    if job.options.llm == NONE or job.replayed is not None:
        yield None
        return
    name = job.options.llm
    if name.startswith(("http://", "https://")):
        name = f"{only_model(name)}@{name}"
    given = job.options
    with language_model(name, given.seed, Ledger(job.out / "ledger"), given.max_calls, sampling=given.sampling) as llm:
        llm.usage.price = job.options.price
        yield llm
