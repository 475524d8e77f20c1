"""How little an image fits any of the classes: what is high is worth a look before its label is believed.

The score was chosen on imagined hands and measured with unseen classes mixed in (`benchmarks/label.py`, `docs/label.md`). The texts tell
more than the mixture, whose prototypes the unseen images have drawn towards themselves; where an unseen class is much like
one that is named, neither tells anything.
"""

import torch
from torch import Tensor


@torch.no_grad()
def unfitness(features: Tensor, text_means: Tensor) -> Tensor:
    """1 - max_j f_i . m_j: the distance of an image to the texts of the class that is nearest to it.

    features: (N, d) unit rows; text_means: (M, d), the mean text feature of each class. Returns (N,), between 0 and 2.
    """
    return 1 - (features @ text_means.to(features).T).amax(1)
