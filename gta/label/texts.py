"""Classes whose texts are one text to the encoder, because they differ only where it no longer reads."""

from gta.encoders.encoder import Encoder
from gta.label.jobs import Job


def check_texts(job: Job, encoder: Encoder) -> list[str]:
    """What to tell of names that are longer than the encoder reads. Raises ValueError, with both names, for classes that become one."""
    names, texts = job.classes.names, [of_class[0] for of_class in job.plain_bank().texts]
    tokens = encoder.tokens(texts)
    seen: dict[bytes, int] = {}
    same = [(first, j) for j, row in enumerate(tokens) if (first := seen.setdefault(row.numpy().tobytes(), j)) != j]
    cut = {j: short for j, text in enumerate(texts) if (short := encoder.shorten(text)) != text}
    if same:
        why = f", which reads the first {tokens.shape[1]} tokens" if cut.keys() & {j for pair in same for j in pair} else ""
        told = [f"  {a + 1} {_part(names[a], names[b])!r} and {b + 1} {_part(names[b], names[a])!r}" for a, b in same[:5]]
        more = [f"  and {len(same) - 5} more pairs"] if len(same) > 5 else []
        head = f"{job.options.classes}: classes that are one text to the encoder{why}; give them names that differ early"
        raise ValueError("\n".join([head, *told, *more]))
    last = {j: " ".join(short.split()[-6:]) for j, short in cut.items()}
    return [f"class {j + 1}, {_part(names[j], names[j])!r}: the encoder reads no further than {words!r}" for j, words in last.items()]


def _part(name: str, other: str) -> str:
    """A name; of a long one the beginning and the place where it differs from another."""
    if len(name) <= 80:
        return name
    start = max(24, next((i for i, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), min(len(name), len(other))) - 12)
    return f"{name[:24]} ... {name[start : start + 40]}"
