"""Label new images one by one with a saved model."""

from dataclasses import replace
from pathlib import Path

from gta.encoders.images import load_images
from gta.encoders.vision import view_features
from gta.label import models
from gta.label.folder import predictions
from gta.label.inputs import find_images, readable
from gta.label.taxonomy import Taxonomy


def predict(
    model: Path,
    source: Path,
    device: str | None = None,
    reject_above: float | None = None,
    links_to: Path | None = None,
    view: str | None = None,
    floor: float | None = None,
) -> tuple[str, list[tuple[str, str]]]:
    """Label new images one by one with a saved model. Returns the CSV, and the files without a label. view: where the model's second view
    is now, if not where it was; floor: of the taxonomy, if not that of the run. Raises the errors of its parts."""
    encoder, classifier = models.load(model, device)
    if view and classifier.second is None:
        raise ValueError(f"{model} was made without a second view; leave --view {view!r} out")
    if floor is not None:
        if (tree := classifier.taxonomy) is None:
            raise ValueError(f"{model} was made without a taxonomy; leave --floor {floor} out")
        tree = Taxonomy.of(classifier.class_names, tree.parents, tree.ranks, floor)
        classifier = replace(classifier, taxonomy=tree)
    second = None if classifier.second is None else classifier.second.load(device, view)
    found = find_images(source, links_to=links_to)
    found = replace(
        found, left_out=[*found.left_out, *((name, "a video; `label` reads its frames") for _, name in found.videos)], videos=()
    )
    if not found.paths:
        raise ValueError(f"{source}: videos alone; `label` reads their frames, and leaves them as images in OUT/frames")
    images = load_images(found.paths, encoder, skip_bad=True)
    features = encoder.encode_images(images.pixels, progress=True).cpu()
    kept, left_out = readable(found, images)
    names = [found.names[i] for i in kept]
    seen = None if second is None else view_features(second, [found.paths[i] for i in kept], names)
    return predictions(names, classifier, classifier.label(features, seen), None, classifier.unfitness(features), reject_above), left_out
