"""Any open_clip model behind two calls: images to unit features, and texts to unit features; and any model of timm behind the first.

May import the ground floor (`gta.files`, `gta.names`). Begin with `encoder.py`, then `vision.py`.
"""

from gta.encoders.encoder import load

__all__ = ["load"]
