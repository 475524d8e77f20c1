"""Any open_clip model behind two calls: images to unit features, and texts to unit features.

May import the ground floor (`gta.files`, `gta.names`). Begin with `encoder.py`.
"""

from gta.encoders.encoder import load

__all__ = ["load"]
