"""What an answer is worth: rows, intervals, tables. The only room that sees labels of query images.

May import everything up to `gta.data` and `gta.worlds`. Begin with `results.py`.
"""
