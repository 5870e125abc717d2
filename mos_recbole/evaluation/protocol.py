"""What makes two results comparable."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

TieRule = Literal["mean", "optimistic", "pessimistic"]


@dataclass(frozen=True)
class EvaluationProtocol:
    """The one way in which all models of a comparison are evaluated: full ranking of one target a query.

    Two results are comparable if their protocol hashes agree: the same data, the same targets, the same candidates.
    How many items of the context a model looks at is the model's own affair.

    Attributes:
        split: name and settings of the split, for example {"name": "leave_one_out"}.
        candidates: "all": every item of the data set; "trained": those that training saw, and a target that it never
            saw is a miss. The padding item never.
        filter_seen: whether items of the query's whole history are no candidates. The target always is one.
        tie_rule: rank of a target that shares its score with n other candidates: "optimistic" puts it before them,
            "pessimistic" after them, "mean" in the middle (n / 2 places down).
    """

    split: dict[str, Any]
    filter_seen: bool
    tie_rule: TieRule
    candidates: Literal["all", "trained"] = "all"

    def hash(self, data_fingerprint: str) -> str:
        """Returns 16 hexadecimal digits that are equal for comparable results only."""
        text = json.dumps({"data": data_fingerprint, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
