"""The tool for a user's own folder of images.

May import everything up to `gta.worlds`. Begin with `jobs.py`, then `run.py`.
"""
