"""Data and models that need no download: real digits, rendered birds, encoders trained on neither, and a field guide.

May import the method. Begin with `digits.py` or `aviary.py`.
"""
