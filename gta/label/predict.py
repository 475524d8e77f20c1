"""Label new images one by one with a saved model."""

from pathlib import Path

from gta.encoders.images import load_images
from gta.label import models
from gta.label.folder import predictions
from gta.label.inputs import find_images, readable


def predict(
    model: Path, source: Path, device: str | None = None, reject_above: float | None = None, links_to: Path | None = None
) -> tuple[str, list[tuple[str, str]]]:
    """Label new images one by one with a saved model. Returns the CSV, and the files without a label. Raises the errors of its parts."""
    encoder, classifier = models.load(model, device)
    found = find_images(source, links_to=links_to)
    images = load_images(found.paths, encoder, skip_bad=True)
    features = encoder.encode_images(images.pixels, progress=True).cpu()
    kept, left_out = readable(found, images)
    names = [found.names[i] for i in kept]
    return predictions(names, classifier, classifier.label(features), None, classifier.unfitness(features), reject_above), left_out
