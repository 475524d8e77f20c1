"""Encode a folder ahead of `label`, by as many processes as there are GPUs or machines that share the folder of results."""

from pathlib import Path

from gta import encoders
from gta.encoders.embeddings import features_of
from gta.encoders.images import load_images
from gta.files import write_atomically
from gta.label.inputs import find_images, readable
from gta.label.tables import table
from gta.worlds import digits


def encode(
    source: Path,
    name: str,
    out: Path,
    *,
    pretrained: str | None = None,
    revision: str | None = None,
    device: str | None = None,
    links_to: Path | None = None,
) -> str:
    """Encode what `out/embeddings` does not hold yet, and write `out/images.csv`: path,key, by which features are found in the shards.

    name, pretrained, revision: as in `gta.encoders.load`; videos are left to `label`. Returns what was done, in words.
    Raises the errors of encoder and images.
    """
    encoder = encoders.load(name, pretrained=pretrained, revision=revision, device=device, embedded=digits.ENCODERS)
    found = find_images(source, besides=out, links_to=links_to)
    images = load_images(found.paths, encoder, store=out / "images", skip_bad=True)
    features = features_of(encoder, images, out / "embeddings")
    kept, left_out = readable(found, images)
    lines = ((found.names[i], images.key(row).hex()) for row, i in enumerate(kept))
    write_atomically(out / "images.csv", table(("path", "key"), lines))
    left = f"; {len(left_out):,} files have none" if left_out else ""
    return f"{len(features):,} images have features of {features.shape[1]} numbers in {out / 'embeddings'}{left}"
