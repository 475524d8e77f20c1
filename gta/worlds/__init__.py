"""What needs no download: real digits, rendered birds, encoders that saw neither, a field guide.

May import the method. Begin with `digits.py` or `aviary.py`.
"""
