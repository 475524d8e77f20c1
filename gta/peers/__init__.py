"""What a user would pick instead of GTA-CLIP, each from its paper's equations, on the same features.

May import everything up to `gta.scores`, and `gta.studies`. Begin with `bench.py`, then the file of a family.

Inductive methods return logits (N, M), transductive ones assignments (N, M) whose rows sum to 1; `softmax` of the former, or
the latter as they are, is a prior that `gta.transduct.transduct` goes on from. None is given a label of a query image.
"""
