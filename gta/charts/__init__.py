"""Figures drawn from the tables of many runs: a file each; the style and the saving are those of `gta.figures`."""
