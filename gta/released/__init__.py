"""What only mimics the released code, through the ordinary hooks of the method, to show what each difference is worth.

Sources: `cvl-umass/GTA-CLIP` (zero-shot), `MaxZanella/transduction-for-vlms` (few-shot). May import everything up to the method.
Begin with `presets.py`: the list of all differences, and what the two presets set.
"""
