"""A run to be killed: asks about 100 pairs, eight at a time, and writes the bank. Arguments: URL, ledger folder, bank file."""

import sys
from itertools import combinations
from pathlib import Path

from gta.attributes import Bank
from gta.generate import distinguish
from gta.llm.chat import LanguageModel
from gta.llm.ledger import Ledger
from gta.llm.prompts import Prompts

url, ledger, bank = sys.argv[1:]
llm = LanguageModel("m", url, Ledger(ledger), concurrency=8, backoff=0.01, progress=False)
pairs = [(a, b, 1) for a, b in combinations(range(15), 2)][:100]
names = Bank.from_template([f"kind {chr(65 + i)}" for i in range(15)])
distinguish(names, pairs, llm, 0, Prompts("{name}?", "{a} or {b}?")).save(Path(bank))
