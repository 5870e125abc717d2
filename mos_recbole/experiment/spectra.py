"""The spectrum of finished runs: what their models say of the same validation queries, as one matrix a run."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mos_recbole.errors import InputError
from mos_recbole.evaluation import OutputSpectra, Spectrum, centre_, exact_spectrum, randomised_spectrum
from mos_recbole.evaluation.spectrum import DOUBLE, SINGLE, Method
from mos_recbole.experiment.load import TrainedRun, load_run
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.results import RunResult
from mos_recbole.training import QuerySet, make_query_set, query_scores
from mos_recbole.training.loaders import Fields

_log = logging.getLogger(__name__)

# All singular values of 2,048 queries x 12,000 items take seconds on one core, of 4,096 about a minute, and of the most
# that are allowed an hour.
MOST_BY_DEFAULT = 2048
AUTO_EXACT = 4096
MOST_EXACT = 16_384
# Of the matrix; its decomposition needs as much again.
MOST_BYTES = 2**32
DEFAULT_COMPONENTS = 512
_CHUNK_BYTES = 2**26


@dataclass(frozen=True)
class SpectrumPlan:
    """How spectra are computed.

    Attributes:
        queries: number of validation queries N; None for two an item, but at most 2,048, all there are, and what fits.
        seed: which queries are drawn, the same ones for all runs of a protocol, and with which vectors the randomised
            method starts.
        method: "auto" is exact up to a smaller side of 4,096, else randomised.
        components: leading singular values that the randomised method finds; None for 512.
    """

    queries: int | None = None
    seed: int = 0
    method: Literal["auto", "exact", "randomised"] = "auto"
    components: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("queries", self.queries), ("components", self.components)):
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}; expected 1 or more")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}; expected 0 or more")
        if self.components is not None and self.method != "randomised":
            raise InputError(f"--components {self.components} is for --method randomised; the exact one finds all")

    def n_queries(self, there: int, n_items: int) -> int:
        """Returns N.

        Args:
            there: number of validation queries.
            n_items: V.

        Raises:
            InputError: more queries than there are or than fit into memory.
        """
        fitting = MOST_BYTES // (8 * n_items)
        if fitting < 1:
            raise InputError(f"{n_items:,} items: not even one query's log-probabilities fit into {_gib(MOST_BYTES)}")
        if self.queries is None:
            return min(there, 2 * n_items, MOST_BY_DEFAULT, fitting)
        if self.queries > there:
            raise InputError(f"--queries {self.queries:,}: there are {there:,} validation queries")
        if self.queries > fitting:
            raise InputError(
                f"--queries {self.queries:,}: log-probabilities of {n_items:,} items in float64 take "
                f"{_gib(8 * n_items * self.queries)}; expected no more than {_gib(MOST_BYTES)}: --queries {fitting}"
            )
        return self.queries

    def method_for(self, n_queries: int, n_items: int) -> Method:
        """Returns the method for a matrix [N, V].

        Raises:
            InputError: the matrix is too large for the exact one.
        """
        smaller = min(n_queries, n_items)
        if self.method == "auto":
            return "exact" if smaller <= AUTO_EXACT else "randomised"
        if self.method == "exact" and smaller > MOST_EXACT:
            raise InputError(
                f"--method exact: a matrix of {n_queries:,} queries x {n_items:,} items is too large for all of its "
                f"singular values; what works: --queries {MOST_EXACT}, or --method randomised --components "
                f"{DEFAULT_COMPONENTS}"
            )
        return self.method


def measure_run(
    record: RunResult,
    plan: SpectrumPlan | None = None,
    *,
    device: str = "auto",
    data_path: str | Path | None = None,
) -> OutputSpectra:
    """Returns the spectra of a finished run's log-probabilities, of its best epoch, for N of its validation queries.

    A model's states are computed as in its evaluation, what the head makes of them in float64: float32 would leave
    noise of 1e-7 of the largest singular value, which looks like full rank. The padding item is left out, and items
    that the protocol takes out of all candidates.

    RecBole's own classes have scores, in float32; their log-softmax stands in for log-probabilities, and a singular
    value counts by float32's rounding.

    Args:
        record: of the run.
        plan: how.
        device, data_path: as of `load_run`.

    Raises:
        InputError: as `load_run`; a plan that the matrix does not allow; or scores that are infinite or NaN.
    """
    plan = plan or SpectrumPlan()
    run = load_run(record, device, data_path)
    queries = make_query_set(run.config, run.data, run.split, "valid", run.protocol, run.config["device"])
    item_V = _items(run, queries)
    n_queries = plan.n_queries(len(queries), len(item_V))
    method = plan.method_for(n_queries, len(item_V))
    switched = plan.method == "auto" and method == "randomised"
    why = f", since the smaller side is over {AUTO_EXACT:,}" if switched else ""
    _log.info(f"{record.folder.name}: {n_queries:,} queries x {len(item_V):,} items, {method}{why}")
    chosen = torch.from_numpy(draw_queries(len(queries), n_queries, plan.seed))
    probabilities = isinstance(run.model, EncoderHeadRecommender)
    compute = _log_prob if probabilities else _log_softmax_of_scores
    matrix_NV = compute(run, queries, chosen, item_V)
    if not bool(torch.isfinite(matrix_NV.sum())):
        raise InputError(f"{record.folder}: {record.model} has scores that are infinite or NaN, which have no spectrum")
    precision = DOUBLE if probabilities else SINGLE

    def spectrum(scale: float | None) -> Spectrum:
        if method == "exact":
            return exact_spectrum(matrix_NV, precision, scale)
        return randomised_spectrum(matrix_NV, plan.components or DEFAULT_COMPONENTS, plan.seed, precision, scale)

    raw = spectrum(None)
    centre_(matrix_NV)
    # The rounding of the raw entries is in the centred ones.
    centred = spectrum(raw.largest)
    width = run.model.item_table.shape[1] if isinstance(run.model, EncoderHeadRecommender) else None
    return OutputSpectra(raw, centred, width, probabilities)


def draw_queries(there: int, n_queries: int, seed: int) -> np.ndarray:
    """Returns the numbers of the queries that are taken, ascending, int64 [N]."""
    return np.sort(np.random.default_rng(seed).choice(there, n_queries, replace=False))


def _items(run: TrainedRun, queries: QuerySet) -> torch.Tensor:
    """Returns the items that are columns, on the device: candidates, without the padding item 0."""
    kept_V = torch.ones(run.model.n_items, dtype=torch.bool, device=run.config["device"])
    kept_V[0] = False
    if queries.excluded_V is not None:
        kept_V &= ~queries.excluded_V
    return kept_V.nonzero().squeeze(1)


@torch.no_grad()
def _log_prob(run: TrainedRun, queries: QuerySet, chosen: torch.Tensor, item_V: torch.Tensor) -> torch.Tensor:
    """Returns the log-probabilities [N, V] by the model's own head, in float64."""
    fields, model = Fields.of(run.config), run.model
    assert isinstance(model, EncoderHeadRecommender)
    batches = (queries.batch(index, fields) for index in chosen.split(run.config["eval_batch_size"]))
    state_Nd = torch.cat([model(batch) for batch in batches])
    model.double()
    rows = max(1, _CHUNK_BYTES // (8 * model.n_items * model.head.n_components))
    return _filled(len(chosen), item_V, (model.log_prob(state_nd.double()) for state_nd in state_Nd.split(rows)))


@torch.no_grad()
def _log_softmax_of_scores(
    run: TrainedRun, queries: QuerySet, chosen: torch.Tensor, item_V: torch.Tensor
) -> torch.Tensor:
    """Returns the log-softmax [N, V] over the items of the scores of one of RecBole's own models, in float64."""
    fields, n_items = Fields.of(run.config), run.model.n_items
    rows = max(1, min(run.config["eval_batch_size"], _CHUNK_BYTES // (8 * n_items)))
    batches = (queries.batch(index, fields) for index in chosen.split(rows))
    matrix_NV = _filled(
        len(chosen), item_V, (query_scores(run.model, run.config, batch, queries.n_items) for batch in batches)
    )
    for block_nV in matrix_NV.split(rows):
        block_nV -= block_nV.logsumexp(dim=1, keepdim=True)
    return matrix_NV


def _filled(n_queries: int, item_V: torch.Tensor, parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """Returns parts of a matrix below each other, of the columns of these items alone, float64."""
    matrix_NV = torch.empty(n_queries, len(item_V), dtype=torch.float64, device=item_V.device)
    start = 0
    for part in parts:
        matrix_NV[start : start + len(part)] = part[:, item_V]
        start += len(part)
    return matrix_NV


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
