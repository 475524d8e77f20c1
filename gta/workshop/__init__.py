"""Programs that make files of the repository: the embedded encoders, their cards, and the choice of their settings.

May import everything; nothing imports it. Begin with `pretrain.py`.
"""
