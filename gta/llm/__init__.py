"""One question in, one recorded answer out: the language model and its ledger.

May import the ground floor alone; it knows nothing of CLIP or of datasets. Begin with `chat.py`. The words of the questions are
in `prompts.yaml`.
"""
