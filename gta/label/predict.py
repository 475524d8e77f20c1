"""Label new images one by one with a saved model."""

import tempfile
from dataclasses import replace
from pathlib import Path

from gta.encoders.images import load_images
from gta.encoders.vision import view_features
from gta.label import models
from gta.label.folder import predictions
from gta.label.groups import VIDEO, groups_of
from gta.label.inputs import find_images, readable
from gta.label.taxonomy import Taxonomy
from gta.label.videos import with_frames


def predict(
    model: Path,
    source: Path,
    device: str | None = None,
    reject_above: float | None = None,
    links_to: Path | None = None,
    view: str | None = None,
    floor: float | None = None,
    every: float = 1.0,
) -> tuple[str, list[tuple[str, str]]]:
    """Label new images one by one with a saved model. Returns the CSV, and the files without a label. view: where the model's second view
    is now, if not where it was; floor: of the taxonomy, if not that of the run; every: seconds from one frame of a video to the next, which
    are read, labelled and not kept. Raises the errors of its parts."""
    encoder, classifier = models.load(model, device)
    if view and classifier.second is None:
        raise ValueError(f"{model} was made without a second view; leave --view {view!r} out")
    if floor is not None:
        if (tree := classifier.taxonomy) is None:
            raise ValueError(f"{model} was made without a taxonomy; leave --floor {floor} out")
        tree = Taxonomy.of(classifier.class_names, tree.parents, tree.ranks, floor)
        classifier = replace(classifier, taxonomy=tree)
    second = None if classifier.second is None else classifier.second.load(device, view)
    with tempfile.TemporaryDirectory() as frames:
        found, videos = with_frames(find_images(source, links_to=links_to), Path(frames), every)
        images = load_images(found.paths, encoder, skip_bad=True)
        features = encoder.encode_images(images.pixels, progress=True).cpu()
        kept, left_out = readable(found, images)
        names, paths = [found.names[i] for i in kept], [found.paths[i] for i in kept]
        seen = None if second is None else view_features(second, paths, names)
    z, unfitness = classifier.label(features, seen), classifier.unfitness(features)
    shared = None
    if videos:
        labelled = [reject_above is None or score <= reject_above for score in unfitness.tolist()]
        shared = groups_of(VIDEO, names, paths, [videos.get(name, "") for name in names]).columns(z, labelled, classifier.class_names)
    return predictions(names, classifier, z, None, unfitness, reject_above, groups=shared), left_out
