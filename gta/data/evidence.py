"""Evidence: every fact of a manifest says how it is known.

A fact is `verified` in a stored copy of the thing itself, `inferred` from something else, or from `memory` alone. The words after
the colon give the evidence.
"""

from collections import Counter
from typing import Annotated, Self

from pydantic import Field, model_validator

from gta.names import nearest
from gta.settings import Checked

LEVELS = ("verified", "inferred", "memory")
Evidence = Annotated[str, Field(pattern=rf"^({'|'.join(LEVELS)})(: .+)?$")]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(Checked):
    """A manifest. evidence: for each fact of the file, its level and how it is known. A part with its own evidence is also a fact."""

    evidence: dict[str, Evidence]

    @model_validator(mode="after")
    def _every_fact_has_evidence(self) -> Self:
        facts = {name for name in self.facts if getattr(self, name)}
        if without := sorted(facts - set(self.evidence)):
            raise ValueError(f"evidence is missing for {', '.join(without)}")
        if unknown := sorted(set(self.evidence) - facts):
            raise ValueError(f"evidence for {unknown[0]!r}, which is no fact of this file{nearest(unknown[0], facts)}")
        return self

    @property
    def facts(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def parts(self) -> dict[str, Evidence]:
        """The facts in lists: {name of the fact: its evidence}."""
        return {}

    @property
    def known(self) -> Counter[str]:
        """How many facts are verified, inferred and from memory."""
        levels = Counter(text.partition(":")[0] for text in (self.evidence | self.parts).values())
        return Counter({level: levels[level] for level in LEVELS})

    @property
    def unverified(self) -> dict[str, Evidence]:
        """The facts that are not verified, with their evidence."""
        return {fact: text for fact, text in (self.evidence | self.parts).items() if not text.startswith("verified")}
