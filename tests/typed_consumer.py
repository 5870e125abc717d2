"""A user's typed program: mypy checks it strictly, against the source and an installed wheel. It is never run."""

from pathlib import Path

import torch

from mos_recbole import (
    HeadSpec,
    InputError,
    LogitHead,
    RunResult,
    Setting,
    find_records,
    load_run,
    load_settings,
    mixture_cross_entropy,
    register_head,
    run_experiment,
)
from mos_recbole.analysis import RunGroup, compare_groups, find_run_groups
from mos_recbole.heads import MoSHead
from mos_recbole.models import EncoderHeadRecommender, GRU4RecMoS
from mos_recbole.specs import Rate


class EuclidHead(LogitHead):
    """A head of one's own."""

    def __init__(self, n_items: int, width: int, *, item_bias: bool = False, scale: float = 1.0) -> None:
        super().__init__(n_items, width, item_bias=item_bias)
        self.scale = scale

    def logits(self, state_Nd: torch.Tensor, items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Returns [N, 1, V]."""
        (weight_Vd,) = items
        return -self.scale * torch.cdist(state_Nd, weight_Vd).square()[:, None, :]


register_head(HeadSpec("euclid", "Euclid", EuclidHead, (Setting("euclid_scale", Rate, 1.0, "Factor.", "scale"),)))


def train(model: type[EncoderHeadRecommender], seeds: list[int]) -> list[RunResult]:
    """Returns the records of a model's runs."""
    settings = [load_settings(model.__name__, "ml-100k", overrides={"seed": seed}) for seed in seeds]
    return [run_experiment(one, output=Path("results"), device="cpu") for one in settings]


def mean(records: list[RunResult], metric: str = "NDCG@10") -> float:
    """Returns a metric's mean over runs."""
    return sum(record.test[metric].value for record in records) / len(records)


def loss(components: torch.Tensor, log_prior: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> float:
    """Returns the loss as a number."""
    found: torch.Tensor = mixture_cross_entropy(components, log_prior, weight, target, impl="chunked")
    return found.item()


def mixture(n_items: int) -> MoSHead:
    """Returns a built-in head."""
    return MoSHead(n_items, 8, n_components=4)


def main() -> None:
    """Trains, compares and loads."""
    try:
        records: list[RunResult] = train(GRU4RecMoS, [1, 2])
    except InputError as error:
        raise SystemExit(str(error)) from error
    groups: list[RunGroup] = find_run_groups(["GRU4RecMoS", "GRU4RecSoftmax"], [Path("results")])
    comparisons = compare_groups(groups, ["NDCG@10"])
    print(mean(records), comparisons, load_run(find_records(Path("results"))[0]).model)
