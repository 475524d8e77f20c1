"""The batch: from grids in YAML to executed notebooks, tables, pages and the site. It knows the names of methods, not their code.

May import the ground floor, `gta.settings` and `gta.scores`. Begin with `steps.py`.
"""
