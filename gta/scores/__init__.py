"""Scoring of answers: rows, confidence intervals and tables. Only this room sees the labels of query images.

May import everything up to `gta.data` and `gta.worlds`. Begin with `results.py`.
"""
