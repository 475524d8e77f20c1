"""The language model and its ledger: each question has one recorded answer.

May import only the ground floor and `settings`; it has no code for CLIP or datasets. Begin with `chat.py`. The words of the questions are
in `prompts.yaml`.
"""
