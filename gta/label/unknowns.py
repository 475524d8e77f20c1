"""Unfitness: how little an image fits any of the classes. If it is high, check the image before you use its label.

The score was chosen on synthetic handwriting and measured with unseen classes mixed in (`benchmarks/label.py`, `docs/label.md`). The texts
are a better reference than the prototypes of the mixture, because images of unseen classes move the prototypes. If an unseen class is
similar to a named one, neither reference detects it.
"""

import torch
from torch import Tensor

ENTRIES = 2**26  # cosines in memory together


@torch.no_grad()
def unfitness(features: Tensor, text_means: Tensor) -> Tensor:
    """1 - max_j f_i . m_j, the distance of an image to the texts of its nearest class.

    features: (N, d) unit rows; text_means: (M, d), the mean text feature of each class. Returns (N,), between 0 and 2.
    """
    parts = features.split(max(1, ENTRIES // len(text_means)))
    return 1 - torch.cat([(part @ text_means.to(features).T).amax(1) for part in parts])
