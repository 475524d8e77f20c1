"""Figures and tables for readers, made from result tables: one file for each kind.

May import everything up to `gta.studies` and `gta.peers`. Begin with `style.py`, whose colours all figures use.
"""
