"""From grids in YAML to executed notebooks, tables, pages and the site; knows names, not methods.

May import the ground floor and `gta.scores`. Begin with `steps.py`.
"""
