"""The peers: methods that a user may choose instead of GTA-CLIP, each implemented from its paper, all on the same features.

May import everything up to `gta.scores`, and `gta.studies`. Begin with `bench.py`, then the file of a family.

Inductive methods return logits (N, M); transductive methods return assignments (N, M) whose rows sum to 1. The `softmax` of logits, or
the assignments themselves, are a prior that `gta.transduct.transduct` can start from. No method gets the label of a query image.
"""
