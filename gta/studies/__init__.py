"""What the runs of each notebook do: one file for each table and each ablation.

May import everything up to `gta.scores`. Begin with `study.py`, then `zero_shot.py`.
"""
