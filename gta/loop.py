"""The method: generate, transduct, adapt, T times (GTA-CLIP, arXiv 2501.06031, section 3)."""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from gta.adapt import Batch, adapt, confident_images, draw_batches, natural_augmentation, with_support
from gta.affinity import Build, Rows, knn_graph
from gta.attributes import Bank, beginning
from gta.checkpoints import Checkpoints
from gta.checks import unit_rows
from gta.encoders.encoder import Encoder
from gta.encoders.images import Images, as_images
from gta.generate import Pair, confused_pairs, distinguish, pair_threshold, pairs_to_ask, random_pairs
from gta.hashes import source_hash
from gta.labels import Z
from gta.llm.chat import ChatModel
from gta.llm.prompts import Prompts
from gta.settings import Settings
from gta.state import Result, State
from gta.transduct.from_texts import entries_held, infer_sparse, infer_whole, refuse_sparse


def run(
    encoder: Encoder,
    images: Images | Sequence | Tensor,
    class_names: Sequence[str],
    settings: Settings | None = None,
    *,
    attributes: Bank | Path | str | None = None,
    llm: ChatModel | None = None,
    questions: Prompts | None = None,
    support: tuple[Images | Sequence | Tensor, Tensor] | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    groups: Callable[[nn.Module, Settings], list[dict]] | None = None,
    optimizer: Callable[[nn.Module, list[dict], Settings], torch.optim.Optimizer] | None = None,
    affinity: Build = knn_graph,
    gamma: Callable[..., float] | None = None,
    select_pairs: Callable[[Sequence[Pair], int, Bank], list[Pair]] = pairs_to_ask,
    ask: Callable[..., Bank] = distinguish,
    draw: Callable[..., list[Batch]] = draw_batches,
    dtype: torch.dtype | None = None,
    features: Tensor | None = None,
    view: Tensor | None = None,
    keep: int | None = None,
    text_first: Callable[[Encoder, Bank], Encoder] | None = None,
    checkpoints: Checkpoints | Path | str | None = None,
    progress: bool = True,
) -> Result:
    """Label all images from class names, by T iterations of the three steps.

    images: what `gta.encoders.images.load_images` gives or reads, or uint8 (N, 3, H, W). settings: by default the paper's.
    attributes: the bank to begin with, or its file, by default "a photo of a NAME."; llm: it is asked about confused pairs with
    `questions`; None leaves the bank as it is. A bank with a log of pairs comes from a whole run and is replayed: each iteration gets
    the texts that it got then, and nothing is asked. support: labelled images and their classes (S,), the few-shot setting. dtype: of
    weights, features and solver, by default the encoder's own; float64 gives the same answer on every machine. view: features of a
    second encoder, (N, d2) unit rows, support last, which join the mixture and the graph and stay as they are. keep: entries of a row of
    z that are held, by default all up to 2^27 images times classes and 64 beyond (`gta.transduct.sparse`). `encoder` is not changed.
    The last iteration does not adapt, since nothing would use it. checkpoints: a folder; after a kill the same call goes on where it
    was, and gives the same result.

    You can replace these. augment: from one uint8 image to another, by default that for photographs; groups, optimizer: what learns, and
    how, as in `gta.adapt.adapt`; affinity: from features, support features and the number of neighbours to the graph; gamma: from the
    encoder as it is, query features, prior, support features and labels to the weight of support in a transduction; select_pairs: which
    confused pairs are asked about; ask: asks, and gives the grown bank, as `gta.generate.distinguish`; draw: from the confident images
    to the batches that adapt sees, as `gta.adapt.draw_batches`; features: those of all images by the unchanged `encoder`, support last,
    if you know them already; text_first: a stage before the loop that trains the text tower on the bank (`gta.peers.descriptions`).

    Raises ValueError for a bank of other classes, for one to replay with an llm or under another memory, and for what needs z whole where
    it is not; what llm raises.
    """
    settings = settings or Settings()
    bank = beginning(attributes, class_names, settings.memory, settings.generate, asks=llm is not None)
    encoder = text_first(encoder, bank) if text_first else encoder
    replayed = bank.asked if bank.asked and settings.generate else None
    parts = [as_images(part, encoder, progress) for part in (images, *(support or ())[:1])]
    labels = torch.as_tensor(support[1]).long() if support else torch.empty(0, dtype=torch.long)
    augment = augment or natural_augmentation(encoder.image_size)
    identity: list = [
        encoder.weights_sha256,
        str(dtype or encoder.dtype),
        settings.model_dump(),
        bank.to_json(),
        llm and llm.model,
        questions and asdict(questions),
    ]
    hooks = (augment, groups, optimizer, affinity, gamma, select_pairs, ask, draw)
    identity += [[hook and _describe(hook) for hook in hooks], [part.sha256 for part in parts], labels.tolist()]
    if view is not None:
        if gamma is not None:
            raise ValueError("view and gamma do not go together: what chooses gamma sees one encoder")
        view = _checked_view(view, sum(map(len, parts))).to(encoder.device, torch.promote_types(dtype or encoder.dtype, torch.float32))
        identity.append(hashlib.sha256(view.cpu().numpy().tobytes()).hexdigest())
    n, m = len(parts[0]), len(bank.class_names)
    if (held := entries_held(keep, n, m)) is not None:
        needs = {"gamma": gamma, "view": view is not None, "settings.anchor": settings.anchor, "settings.balance": settings.balance}
        refuse_sparse(n, m, needs, f"give keep={m}, with ten times {4e-9 * n * m:.2g} GB of memory")
        identity.append(held)
    method = _Method(encoder.copy(dtype), settings, llm, questions, parts, labels, replayed, *hooks, features, view, held, progress)
    method.begin(bank, checkpoints, identity)
    for _ in method.iterations():
        method.once("encode", method.encode)
        method.once("transduct", method.transduct)
        method.once("generate", method.generate)
        method.once("transduct again", method.transduct_again)
        method.once("adapt", method.adapt)
    return method.result()


@dataclass
class _Method:
    """The stages of a run. They change `state` and the weights of `encoder`, and nothing else."""

    encoder: Encoder
    settings: Settings
    llm: ChatModel | None
    questions: Prompts | None
    images: list[Images]  # query, then support
    labels: Tensor  # of support
    replayed: tuple | None
    augment: Callable[[Tensor], Tensor]
    groups: Callable[[nn.Module, Settings], list[dict]] | None
    optimizer: Callable[[nn.Module, list[dict], Settings], torch.optim.Optimizer] | None
    affinity: Build
    gamma: Callable[..., float] | None
    select_pairs: Callable[[Sequence[Pair], int, Bank], list[Pair]]
    ask: Callable[..., Bank]
    draw: Callable[..., list[Batch]]
    features: Tensor | None  # of the untouched encoder
    view: Tensor | None  # of a second encoder
    keep: int | None  # entries of a row of z, None for all
    progress: bool

    def begin(self, bank: Bank, checkpoints: Checkpoints | Path | str | None, identity: list) -> None:
        """Begin with the bank, or go on from the last checkpoint of this very run: a hash of all that matters names its folder."""
        self.shorten = cache(self.encoder.shorten)
        self.state, self.checkpoints = State(bank.within(self.shorten)), None
        if checkpoints is None:
            return
        name = hashlib.sha256(json.dumps([*identity, source_hash(Path(__file__))]).encode()).hexdigest()[:16]
        self.checkpoints = (checkpoints if isinstance(checkpoints, Checkpoints) else Checkpoints(checkpoints)).within(name)
        found = self.checkpoints.latest(self.encoder.device)
        if found is None:
            return
        self.state = State.of(found, self.encoder.device)
        if "weights" in self.state.tensors:
            self.encoder.model.load_state_dict(self.state.tensors["weights"])
        if self.progress:
            after = f"after {list(self.state.done)[-1]}" if self.state.done else "finished"
            print(f"going on from iteration {self.state.iteration}, {after} ({self.checkpoints.folder})", file=sys.stderr)

    def iterations(self) -> Iterator[None]:
        total, first = self.settings.iterations, self.state.iteration
        with tqdm(total=total, initial=first, desc="GTA-CLIP", unit="iteration", disable=not self.progress) as self.bar:
            while self.state.done or not self.state.finished:
                yield
                self.state.close_iteration()
                self.bar.update()
                if self.state.finished:
                    self._save()

    def once(self, stage: str, work: Callable[[], None]) -> None:
        """Do a stage and write a checkpoint; do nothing if a checkpoint says that the stage is done."""
        if stage in self.state.done:
            return
        self.bar.set_postfix(stage=stage, refresh=time.time() - self.bar.last_print_t > 1 if self.progress else False)
        start = time.perf_counter()
        with self.encoder.threads():
            work()
        if self.encoder.device.type == "cuda":
            torch.cuda.synchronize()  # so that a stage's seconds are its own
        self.state.done[stage] = time.perf_counter() - start
        self._save()

    def _save(self) -> None:
        if self.checkpoints:
            self.state.save(self.checkpoints, self.encoder.device)

    def encode(self) -> None:
        """Encode the images if the encoder may have changed, and the texts that have no features yet."""
        state = self.state
        if "features" not in state.tensors or self.settings.adapt:
            if state.iteration == 0 and self.features is not None:
                encoded = [self.features.to(self.encoder.device, self.encoder.dtype)]
            else:
                encoded = [self.encoder.encode_images(part.pixels, progress=self.progress) for part in self.images]
            state.tensors["features"] = {"images": torch.cat(encoded)}
            state.tensors.pop("texts", None)
            state.texts = []
        self._encode_texts(self._bank_before)

    def transduct(self) -> None:
        self._infer(self._bank_before)

    def generate(self) -> None:
        state, t = self.state, self.state.iteration
        if self.replayed is not None:
            state.asked = [(a, b, count) for iteration, a, b, count in self.replayed if iteration == t]
        elif self.settings.generate and self.llm is not None:
            pairs = confused_pairs(self._z_of_one_view, self.settings.margin)
            if state.beta is None and pairs:
                state.beta = pair_threshold(pairs, self.settings.pair_share)
            state.asked = self.select_pairs(pairs, state.beta or 0, state.bank)
            if self.settings.pairs == "random":
                state.asked = random_pairs(len(state.asked), state.bank, f"{self.settings.seed} {self.settings.draw} {t}")
            if state.asked:
                state.bank = self.ask(state.bank, state.asked, self.llm, t, self.questions).within(self.shorten)

    def transduct_again(self) -> None:
        if self.state.asked:
            bank = self.state.bank.at(self.state.iteration)
            self._encode_texts(bank)
            self._infer(bank)

    def adapt(self) -> None:
        state = self.state
        settled = state.changed is not None and state.changed < self.settings.stop
        state.finished = settled or state.iteration == self.settings.iterations - 1
        if state.finished or not self.settings.adapt:
            return
        ranked = state.tensors["z"]["logits"] if self.keep is None else state.held
        selection = with_support(confident_images(ranked, self.settings.confident, self._key), self.labels, len(state.held))
        seed = f"{self.settings.seed} {self.settings.draw} {state.iteration} "
        batches = self.draw(selection, state.bank.at(state.iteration).texts, self.settings.batch_size, seed, self._key)
        hooks = (self.augment, self.groups, self.optimizer)
        state.adapted = asdict(adapt(self.encoder, self._original, batches, self.settings, *hooks, self.progress))
        state.tensors["weights"] = self.encoder.model.state_dict()

    def result(self) -> Result:
        state = self.state
        history = [{**step, "labels": labels} for step, labels in zip(state.history, state.tensors["labels"]["labels"], strict=True)]
        texts = [features.cpu() for features in self._text_features(state.bank.at(state.iteration - 1))]
        last = {name: tensor.cpu() for name, tensor in state.tensors["mixture"].items()}
        last["features"] = state.tensors["features"]["images"][: len(self.images[0])].cpu()
        calls = state.tensors["calls"]["labels"].cpu()
        called = {(t, number): labels for (t, number), labels in zip(state.called, calls, strict=True)}
        return Result(
            state.held.cpu(), state.prior.cpu(), state.bank, self.encoder, history, self.checkpoints, called, **last, text_features=texts
        )

    @property
    def _bank_before(self) -> Bank:
        """The bank before this iteration asks; a bank to replay already holds all later answers."""
        bank, t = self.state.bank, self.state.iteration
        if self.replayed is None:
            return bank.at(t)
        return bank.at(-1 if bank.memory == "one_iteration" else t - 1)

    def _encode_texts(self, bank: Bank) -> None:
        state = self.state
        new = sorted({text for of_class in bank.texts for text in of_class} - set(state.texts))
        if new:
            known = [state.tensors["texts"]["texts"]] if "texts" in state.tensors else []
            state.tensors["texts"] = {"texts": torch.cat([*known, self.encoder.encode_texts(new, progress=self.progress)])}
            state.texts = [*state.texts, *new]

    def _infer(self, bank: Bank) -> None:
        """Transduct the query images, from the prior that the texts of the bank give."""
        given = (self._views, self.labels, self._text_features(bank), self.encoder.logit_scale, self.settings, self.affinity)
        if self.keep is None:
            self.state.hold(*infer_whole(*given, partial(self.gamma, self.encoder) if self.gamma else None))
        else:
            self.state.hold(*infer_sparse(self.keep, *given, with_prior="clip" not in self.state.tensors))

    @property
    def _views(self) -> list[Rows]:
        """Features of query and of support images, of the encoder and, if there is one, of the second."""
        queries, features = len(self.images[0]), [self.state.tensors["features"]["images"], self.view]
        return [(of_all[:queries], of_all[queries:]) for of_all in features if of_all is not None]

    @property
    def _z_of_one_view(self) -> Z:
        """What pairs are counted on, (N, M). Two Gaussians make z about twice as sharp, and the margin is meant for one: so their mean."""
        one = self.view is None or not self.settings.transduct
        return self.state.held if one else (self.state.tensors["z"]["logits"] / 2).softmax(1)

    def _text_features(self, bank: Bank) -> list[Tensor]:
        row = {text: i for i, text in enumerate(self.state.texts)}
        return [self.state.tensors["texts"]["texts"][[row[text] for text in of_class]] for of_class in bank.texts]

    def _original(self, row: int) -> Tensor:
        images, row = self._place(row)
        return images.original(row)

    def _key(self, row: int) -> bytes:
        images, row = self._place(row)
        return images.key(row)

    def _place(self, row: int) -> tuple[Images, int]:
        """The images, query or support, that hold a row, and its number there."""
        beyond = row - len(self.images[0])
        return (self.images[0], row) if beyond < 0 else (self.images[1], beyond)


def _describe(hook: Callable) -> str:
    return f"{hook.__module__}.{hook.__qualname__}" if hasattr(hook, "__qualname__") else repr(hook)


def _checked_view(view: Tensor, images: int) -> Tensor:
    if len(view) != images:
        raise ValueError(f"view has {len(view)} rows for {images} images; it holds those of the query images, then those of the support")
    return unit_rows("view", view)
