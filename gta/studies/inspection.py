"""What a run asked, took and did, as tables for readers; no label is used."""

from dataclasses import asdict

import pandas as pd
import torch
from torch import Tensor

from gta.attributes import Bank
from gta.encoders.encoder import Encoder
from gta.llm.ledger import Ledger
from gta.state import Result


def pair_similarity(encoder: Encoder, bank: Bank) -> pd.DataFrame:
    """How alike the classes of each asked pair are to an encoder: the cosine of the means of their texts, without any
    answer about a pair and with all of them."""
    cosines = [_cosines(encoder, bank.at(-1)), _cosines(encoder, bank)]
    rows = [
        {"iteration": t, "pair": f"{bank.class_names[a]} / {bank.class_names[b]}", "images": count}
        | {when: float(cosine[a, b]) for when, cosine in zip(("before", "after"), cosines, strict=True)}
        for t, a, b, count in bank.asked
    ]
    return pd.DataFrame(rows, columns=["iteration", "pair", "images", "before", "after"])


def _cosines(encoder: Encoder, bank: Bank) -> Tensor:
    means = torch.stack([encoder.encode_texts(texts).mean(0) for texts in bank.texts])
    return torch.nn.functional.cosine_similarity(means[:, None], means[None], dim=-1)


def dropped(bank: Bank) -> pd.DataFrame:
    """What was said and not taken, cut or given up: a line each."""
    return pd.DataFrame([asdict(line) for line in bank.dropped], columns=["iteration", "name", "against", "reason", "text"])


def asked(ledger: Ledger) -> pd.DataFrame:
    """What a ledger holds: a line a question, with the last answer as it came."""
    rows = [
        {
            "about": entry["about"],
            "status": entry["status"],
            "tries": len(entry["attempts"]),
            "tokens": sum(attempt["prompt_tokens"] + attempt["completion_tokens"] for attempt in entry["attempts"]),
            "question": entry["request"]["messages"][-1]["content"],
            "answer": entry["attempts"][-1]["raw"] if entry["attempts"] else None,
        }
        for entry in ledger
    ]
    return pd.DataFrame(rows, columns=["about", "status", "tries", "tokens", "question", "answer"]).sort_values("about", ignore_index=True)


def history(result: Result) -> pd.DataFrame:
    """What happened in each iteration, without a look at any label."""
    return pd.DataFrame(result.history).drop(columns=["labels", "groups"]).set_index("iteration").round(3)
