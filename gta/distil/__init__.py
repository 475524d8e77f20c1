"""Distillation: a small, fast student of an adapted encoder, by one trainer with one file for each objective.

May import everything up to `gta.scores`, `gta.studies`, `gta.peers` and `gta.label`. Begin with `trainer.py`, then `objectives.py`.
"""
