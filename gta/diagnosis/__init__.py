"""Diagnosis: which images a labeller gets wrong, and in which words; from a labelled sample and any encoder.

May import everything up to `gta.scores`, `gta.studies` and `gta.label`. Begin with `slices.py`, then `predictors.py`.
"""
