"""What is labelled, where it comes from, and which images count.

May import the method and `gta.worlds`. Begin with `tasks.py`; a dataset's facts are in `data_manifests/`.
"""
