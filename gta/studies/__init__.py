"""What the runs of a notebook are: a file a table of the paper or ablation.

May import everything up to `gta.scores`. Begin with `study.py`, then `zero_shot.py`.
"""
