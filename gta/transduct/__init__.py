"""Step 2, transduct: the labels of all images at once, held whole or, of many images and classes, by their largest entries.

May import the ground and `settings`. Begin with `solver`; `mixture` is what it shares with `sparse`; the loop calls
both by `from_texts`.
"""

from gta.transduct.solver import (
    GAMMAS,
    INNER,
    LAPLACIAN,
    ROUNDS,
    Transduction,
    class_features,
    nearest_query_judge,
    posterior,
    select_gamma,
    text_prior,
    transduct,
)

__all__ = [
    "GAMMAS",
    "INNER",
    "LAPLACIAN",
    "ROUNDS",
    "Transduction",
    "class_features",
    "nearest_query_judge",
    "posterior",
    "select_gamma",
    "text_prior",
    "transduct",
]
