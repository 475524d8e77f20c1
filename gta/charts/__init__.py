"""Figures drawn from tables: a file each.

May import everything up to `gta.studies` and `gta.peers`. Begin with `style.py`, whose colours are those of all.
"""
