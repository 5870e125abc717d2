"""The spectrum of finished runs: what their models say of the same validation queries, as one matrix a run."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mos_recbole.errors import InputError
from mos_recbole.evaluation import OutputSpectra, Spectrum, centre_, exact_spectrum, randomised_spectrum
from mos_recbole.evaluation.spectrum import DOUBLE, SINGLE, Method
from mos_recbole.experiment.load import load_run
from mos_recbole.experiment.outputs import Outputs
from mos_recbole.results import RunResult
from mos_recbole.training import make_query_set

_log = logging.getLogger(__name__)

# All singular values of 2,048 queries x 12,000 items take seconds on one core, of 4,096 about a minute, and of the most
# that are allowed an hour.
MOST_BY_DEFAULT = 2048
AUTO_EXACT = 4096
MOST_EXACT = 16_384
# Of the matrix; its decomposition needs as much again.
MOST_BYTES = 2**32
DEFAULT_COMPONENTS = 512


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

    What the log-probabilities are is said by `Outputs`. Of RecBole's own classes a singular value counts by float32's
    rounding.

    Args:
        record: of the run.
        plan: how.
        device, data_path: as of `load_run`.

    Raises:
        InputError: as `load_run` and `validation_matrix`.
    """
    plan = plan or SpectrumPlan()
    run = load_run(record, device, data_path)
    outputs = Outputs(run, make_query_set(run.config, run.data, run.split, "valid", run.protocol, run.config["device"]))
    matrix_NV, method = validation_matrix(record, outputs, plan)
    precision = DOUBLE if outputs.probabilities else SINGLE

    def spectrum(scale: float | None) -> Spectrum:
        if method == "exact":
            return exact_spectrum(matrix_NV, precision, scale)
        return randomised_spectrum(matrix_NV, plan.components or DEFAULT_COMPONENTS, plan.seed, precision, scale)

    raw = spectrum(None)
    centre_(matrix_NV)
    # The rounding of the raw entries is in the centred ones.
    centred = spectrum(raw.largest)
    return OutputSpectra(raw, centred, outputs.width, outputs.probabilities)


def validation_matrix(record: RunResult, outputs: Outputs, plan: SpectrumPlan) -> tuple[torch.Tensor, Method]:
    """Returns the log-probabilities [N, V] for the validation queries of a plan, and the method to decompose it.

    Raises:
        InputError: a split without validation, a plan that the matrix does not allow, or scores that are infinite or
            NaN.
    """
    there, n_items = len(outputs.queries), len(outputs.item_V)
    if not there:
        raise InputError(f"{record.folder}: its split has no validation, whose queries are decomposed")
    n_queries = plan.n_queries(there, n_items)
    method = plan.method_for(n_queries, n_items)
    switched = plan.method == "auto" and method == "randomised"
    why = f", since the smaller side is over {AUTO_EXACT:,}" if switched else ""
    _log.info(f"{record.folder.name}: {n_queries:,} queries x {n_items:,} items, {method}{why}")
    matrix_NV = outputs.matrix(torch.from_numpy(draw_queries(there, n_queries, plan.seed)))
    if not bool(torch.isfinite(matrix_NV.sum())):
        raise InputError(f"{record.folder}: {record.model} has scores that are infinite or NaN, which have no spectrum")
    return matrix_NV, method


def draw_queries(there: int, n_queries: int, seed: int) -> np.ndarray:
    """Returns the numbers of the queries that are taken, ascending, int64 [N]."""
    return np.sort(np.random.default_rng(seed).choice(there, n_queries, replace=False))


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
