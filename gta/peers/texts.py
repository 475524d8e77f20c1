"""Classifiers from texts alone: prompt ensembles and CuPL.

The feature of a class is the normalised mean of its unit text features: over templates (CLIP, arXiv 2103.00020, section 3.1.4), or
over sentences of a language model (CuPL, arXiv 2209.03320, section 3). WaffleCLIP (arXiv 2306.07282, section 3.3) is the control of
every attribute method: it takes the mean cosine (`gta.transduct.text_prior`) over texts with random words and characters
(`gta.studies.random_words`). They are the same for all classes, so any gain from them comes from ensembling.
"""

from collections.abc import Sequence

from open_clip import SIMPLE_IMAGENET_TEMPLATES
from torch import Tensor

# Templates of the embedded domains, whose vocabularies do not contain the words of CLIP's templates.
TEMPLATES = {
    "glyphs": ("a picture of the digit {}", "the digit {}", "a picture of a {}", "a character {}", "a large {}"),
    "aviary": ("a picture of a {}", "a {} bird", "a picture of the bird {}", "a picture of a {} bird", "the {}"),
}


def clip_logits(features: Tensor, classes: Tensor, scale: float) -> Tensor:
    """CLIP's logits (N, M): `scale` times the cosines of images (N, d) and class features (M, d), unit rows."""
    return scale * features @ classes.T


def templates(domain: str) -> tuple[str, ...]:
    """Templates of an ensemble, with `{}` for the name: those of the domain, else the seven that CLIP's authors chose for ImageNet."""
    return TEMPLATES.get(domain) or tuple(template("{}") for template in SIMPLE_IMAGENET_TEMPLATES)


def ensemble(class_names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Every name in every template."""
    return [[template.replace("{}", name) for template in templates] for name in class_names]
