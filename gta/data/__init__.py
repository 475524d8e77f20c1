"""Datasets: their images and class names, where these come from, their splits and parts.

May import the method and `gta.worlds`. Begin with `tasks.py`; a dataset's facts are in `data_manifests/`.
"""
