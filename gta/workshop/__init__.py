"""Makes what is committed: embedded encoders, their cards, the choice of their settings.

May import everything; nothing imports it. Begin with `pretrain.py`.
"""
