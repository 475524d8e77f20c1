"""The runs for the peers' tables: every method on the same features, splits and seed, alone and with transduction on top."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from gta.attributes import Bank
from gta.data import tasks
from gta.encoders.images import load_images
from gta.files import ROOT
from gta.peers import alignment, anchored, cache, context, descriptions, dirichlet, fusion, mixtures, probe, propagation, susx
from gta.peers.bench import Bench, Peers, Support, gta_clip
from gta.peers.reading import Prompts
from gta.studies.random_words import vocabulary, waffle
from gta.studies.second_view import TWO_VIEWS
from gta.studies.study import Key
from gta.studies.zero_shot import classifier
from gta.transduct import select_gamma, text_prior, transduct

GROWN = "GTA-CLIP's texts"  # the bank that a run of GTA-CLIP ends with, for an encoder that has not adapted


def all_tables(bench: Bench, parameters: Peers) -> list[tuple[str, int, Bench]]:
    """Run the zero-shot, few-shot and base-to-new tables. Returns (table, shots, bench with its outcomes) for each part."""
    store, source, seed = ROOT / parameters.store, bench.task.source, bench.settings.seed
    zero_shot(bench, parameters.unlabelled, ROOT / parameters.generated if parameters.generated else None, store)
    measured = [("peers_zero_shot", 0, bench)]
    for shots in parameters.chosen_shots:
        labelled = bench.fresh()
        support = Support.of(labelled, *tasks.few_shot(source, shots, seed), store)
        few_shot(labelled, support, shots, parameters.epochs)
        measured.append(("peers_few_shot", shots, labelled))
        print(f"{shots} shots, chosen on {len(support.val_labels)} validation images:", labelled.chosen)
    if bench.task.facts:  # an embedded dataset, whose training images are available
        bound = bench.fresh()
        upper_bound(bound)
        measured.append(("peers_few_shot", 0, bound))
    if parameters.shots:
        most = max(parameters.chosen_shots)
        bases, news = (bench.of_part(half, store) for half in tasks.HALVES)
        support = Support.of(bases, *tasks.few_shot(bases.task.source, most, seed), store)
        base_to_new(bases, news, support, most, parameters.epochs)
        measured += [("peers_base_to_new", most, bases), ("peers_base_to_new", most, news)]
    return measured


def zero_shot(bench: Bench, pool: Sequence | None = None, generated: Path | None = None, store: Path | None = None) -> None:
    """Measure the methods that use no labels; at the end some of them once more, from the texts that GTA-CLIP found.

    pool: unlabelled images that SuS-X retrieves from; generated: a folder of generated images, with one sub-folder for each class. SuS-X
    runs for each of the two that is given.
    """
    task, encoder, x, scale, on_top = bench.task, bench.encoder, bench.features, bench.encoder.logit_scale, bench.transduced

    def mean_cosine(of_classes: Sequence[Sequence[str]]) -> Tensor:
        return text_prior(x, [encoder.encode_texts(of_class) for of_class in of_classes], scale)

    def random_descriptors() -> Tensor:
        words, characters = vocabulary(encoder)
        return mean_cosine(waffle(task.class_names, task.sentence, words, bench.settings.seed, characters))

    def label_desc() -> Tensor:
        words = encoder.encode_texts([of_class[0] for of_class in bench.names_only.texts])
        return descriptions.label_desc(encoder, x, descriptions.described(bench.static), words, seed=bench.settings.seed).softmax(1)

    bench.measure_texts()
    bench.measure("WaffleCLIP", random_descriptors, on_top)
    bench.measure("LabelDesc", label_desc, on_top)
    _support_sets(bench, pool, generated, store)
    bench.measure("ZLaP", lambda: propagation.zlap(x, bench.class_features()), on_top)
    bench.measure("EM-Dirichlet", lambda: dirichlet.em_dirichlet(x, bench.class_features(), scale), on_top)
    bench.measure("k-means", lambda: mixtures.k_means(x, bench.class_features(), scale), on_top)
    bench.measure("GMM", lambda: mixtures.gaussian_mixture(x, bench.class_features()), on_top)
    _from_texts(bench, bench.first_texts)
    grown = gta_clip(bench)
    _, seconds, _ = bench.outcomes["GTA-CLIP", ""]
    bench.measure("CLIP", lambda: bench.clip(bank=grown).softmax(1), on_top, GROWN, ("TransCLIP", GROWN), seconds)
    _from_texts(bench, grown, GROWN, seconds)
    if bench.view is not None:
        gta_clip(bench, view=bench.view)


def _support_sets(bench: Bench, pool: Sequence | None, generated: Path | None, store: Path | None) -> None:
    """Measure SuS-X, with the arguments of `zero_shot`."""
    encoder, on_top = bench.encoder, bench.transduced
    if pool is not None:
        unlabelled = encoder.encode_images(load_images(pool, encoder, store=store).pixels)

        def retrieved(of_classes: Sequence[Sequence[str]]) -> Tensor:
            rows, labels = susx.retrieve(unlabelled, [encoder.encode_texts(of_class) for of_class in of_classes])
            return _tip_x(bench, unlabelled[rows.to(unlabelled.device)], labels)

        bench.measure("SuS-X", lambda: retrieved(bench.names_only.texts), on_top, "retrieved, photo")
        bench.measure("SuS-X", lambda: retrieved(bench.static.without_templates().texts), on_top, "retrieved, CuPL")
    if generated is not None:
        files, drawn = susx.generated(generated, bench.task.class_names)
        keys = encoder.encode_images(load_images(files, encoder, store=store).pixels)
        bench.measure("SuS-X", lambda: _tip_x(bench, keys, drawn), on_top, "generated")


def _tip_x(bench: Bench, keys: Tensor, labels: Tensor) -> Tensor:
    """TIP-X with its default hyperparameters, which need no validation images."""
    labels = labels.to(keys.device)
    return susx.tip_x(bench.clip(), bench.features, keys, labels, bench.class_features()).softmax(1)


def _from_texts(bench: Bench, bank: Bank, variant: str = "", before: float = 0.0) -> None:
    """Measure StatA and OTFusion from the texts of a bank; with a second encoder also OTFusion, GPUA and TransCLIP of two views.

    before: seconds that the bank took. The encoder has not adapted.
    """
    x, scale = bench.features, bench.encoder.logit_scale

    def prior() -> Tensor:
        return bench.clip(bank=bank).softmax(1)

    def classes() -> Tensor:
        return bench.class_features(bank.texts)

    def measure(method: str, work: Callable[[], Tensor], views: str = "", on_top: bool = True) -> None:
        called = ", ".join(filter(None, (views, variant)))
        bench.measure(method, work, bench.transduced if on_top else None, called, before=before)

    measure("StatA", lambda: anchored.stata(x, prior(), classes()))
    measure("OTFusion", lambda: fusion.fusion([x], prior()))
    if bench.view is not None:
        view = bench.view.to(x.device)
        measure("OTFusion", lambda: fusion.fusion([x, view], prior()), TWO_VIEWS)
        measure("GPUA", lambda: alignment.gpua(x, view, prior(), classes(), scale).softmax(1), TWO_VIEWS)
        measure(f"Trans{bench.task.baseline}", lambda: transduct(x, prior(), view=view).assignments, TWO_VIEWS, on_top=False)


def few_shot(bench: Bench, support: Support, shots: int, epochs: int | None = None) -> None:
    """Measure the methods that use `shots` labelled images of each class. epochs: of CoOp and CoCoOp, by default the papers'."""
    task, encoder, x, seed = bench.task, bench.encoder, bench.features, bench.settings.seed
    labels, val, val_labels, classes = support.labels, support.val_features, support.val_labels, bench.class_features()
    keys, clip, val_clip = cache.keys_of(support.views), bench.clip(), bench.clip(val)
    names, views = task.class_names, support.views
    gammas: list[float] = []

    def on_top(prior: Tensor) -> Tensor:
        gamma, result = select_gamma(x, prior, support.features, labels, val, val_labels)
        gammas.append(gamma)
        return result.assignments

    def linear_probe() -> Tensor:
        strength = probe.best_strength(support.features, labels, val, val_labels, len(names))
        bench.chosen["linear probe"] = {"C": strength}
        return probe.linear_probe(x, support.features, labels, len(names), strength).softmax(1)

    def tip_adapter(method: str, keys: Tensor) -> Tensor:
        bench.chosen[method] = cache.search(val_clip, val, keys, labels, val_labels)
        return cache.tip_adapter(clip, x, keys, labels, **bench.chosen[method]).softmax(1)

    def tip_adapter_f() -> Tensor:
        return tip_adapter("Tip-Adapter-F", cache.fit_keys(encoder.logit_scale, classes, views, labels, seed=seed))

    def tip_x() -> Tensor:
        bench.chosen["TIP-X"] = susx.search(val_clip, val, keys, labels, classes, val_labels)
        return susx.tip_x(clip, x, keys, labels, classes, **bench.chosen["TIP-X"]).softmax(1)

    def coop(class_specific: bool) -> Tensor:
        passes = epochs or context.epochs_for(shots)
        learned = context.coop(encoder, names, task.template, views, labels, epochs=passes, seed=seed, class_specific=class_specific)
        return learned.predict(x).softmax(1)

    def cocoop() -> Tensor:
        passes = epochs or context.COCOOP_EPOCHS
        return context.cocoop(encoder, names, task.template, views, labels, seed=seed, epochs=passes).predict(x).softmax(1)

    bench.measure(task.baseline, lambda: bench.clip().softmax(1), on_top, called=("TransCLIP-FS", ""))
    bench.measure("linear probe", linear_probe, on_top)
    bench.measure("Tip-Adapter", lambda: tip_adapter("Tip-Adapter", keys), on_top)
    bench.measure("Tip-Adapter-F", tip_adapter_f, on_top)
    bench.measure("TIP-X", tip_x, on_top)
    bench.measure("CoOp", lambda: coop(False), on_top)
    bench.measure("CoOp", lambda: coop(True), on_top, "class-specific")
    bench.measure("CoCoOp", cocoop, on_top)
    bench.chosen["GTA-CLIP-FS"] = {"gamma": gammas[0]}  # the gamma of TransCLIP-FS
    gta_clip(bench, support, gamma=gammas[0])


def upper_bound(bench: Bench) -> None:
    """Measure logistic regression on the features of all labelled images of an embedded dataset."""
    bench.measure(bench.task.baseline, lambda: bench.clip().softmax(1))
    bench.outcomes.update(classifier(bench.task, bench.encoder))


def base_to_new(bases: Bench, news: Bench, support: Support, shots: int, epochs: int | None = None) -> None:
    """Train CoOp and CoCoOp on `shots` images of each base class, and test them on base and on new classes (CoCoOp, section 4.1).

    bases, news: the two halves of a dataset; support: of the base classes. Methods without training are measured for comparison. As in
    that paper, CoOp starts from the words of the template; a variant starts from random vectors, as in CoOp's own paper.
    """
    encoder, names, template, seed = bases.encoder, bases.task.class_names, bases.task.template, bases.settings.seed
    views, labels, of_coop = support.views, support.labels, epochs or context.epochs_for(shots)
    passes = epochs or context.COCOOP_EPOCHS

    def coop(from_words: bool) -> context.Learned:
        return context.coop(encoder, names, template, views, labels, epochs=of_coop, seed=seed, from_words=from_words)

    def cocoop() -> context.Learned:
        return context.cocoop(encoder, names, template, views, labels, epochs=passes, seed=seed)

    learners: dict[Key, Callable[[], context.Learned]] = {
        ("CoOp", ""): lambda: coop(from_words=True),
        ("CoOp", "random start"): lambda: coop(from_words=False),
        ("CoCoOp", ""): cocoop,
    }
    learned = {}
    for key, learn in learners.items():
        start = time.perf_counter()
        learned[key] = (learn(), time.perf_counter() - start)
    for bench in (bases, news):
        _on_half(bench, learned)
        gta_clip(bench)


def _on_half(bench: Bench, learned: Mapping[Key, tuple[context.Learned, float]]) -> None:
    """Measure learned contexts on one half. learned: {(method, variant): (context, seconds of its training)}."""
    ending, on_top = bench.task.template.partition("{}")[2], bench.transduced

    def predict(done: context.Learned) -> Tensor:
        prompts = Prompts(bench.encoder, bench.task.class_names, ending, done.prompts.length)
        return done.for_classes(prompts).predict(bench.features).softmax(1)

    name = bench.task.baseline
    bench.measure(name, lambda: bench.clip().softmax(1), on_top, called=(f"Trans{name}", ""))
    for (method, variant), (done, seconds) in learned.items():
        bench.measure(method, partial(predict, done), on_top, variant, before=seconds)
