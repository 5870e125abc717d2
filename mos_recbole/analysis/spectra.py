"""Measured spectra of configurations: how large is the rank of what models say?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mos_recbole.analysis.trained_groups import TrainedGroup
from mos_recbole.evaluation import Bounds, OutputSpectra, Spectrum
from mos_recbole.evaluation.spectrum import RELATIVE_THRESHOLDS
from mos_recbole.results import RunResult

View = Literal["raw", "centred"]
VIEWS: tuple[View, View] = ("raw", "centred")


@dataclass(frozen=True)
class MeasuredGroup(TrainedGroup):
    """A configuration with the spectra of its runs.

    Attributes:
        spectra: of each run, in their order.
    """

    spectra: tuple[OutputSpectra, ...]

    @property
    def width(self) -> int | None:
        return self.spectra[0].width

    def views(self, view: View) -> list[Spectrum]:
        """Returns the runs' spectra, raw or centred."""
        return [spectra.raw if view == "raw" else spectra.centred for spectra in self.spectra]


@dataclass(frozen=True)
class Spectra:
    """Some configurations, measured on the same queries.

    Attributes:
        query_seed: by which the queries were drawn.
    """

    groups: tuple[MeasuredGroup, ...]
    query_seed: int

    def frame(self) -> pd.DataFrame:
        """Returns a row a run, with all numbers as they are."""
        return pd.DataFrame(
            [
                _numbers(measured, run, spectra) | {"query seed": self.query_seed}
                for measured in self.groups
                for run, spectra in zip(measured.group.runs, measured.spectra, strict=True)
            ]
        )

    def singular_values(self) -> pd.DataFrame:
        """Returns a row a singular value: of which run, raw or centred, its number from 1, and its value."""
        parts = []
        for measured in self.groups:
            for view in VIEWS:
                for run, spectrum in zip(measured.group.runs, measured.views(view), strict=True):
                    numbers = np.arange(1, len(spectrum.values) + 1)
                    part = {"run": run.run_id, "view": view, "number": numbers, "value": spectrum.values}
                    parts.append(pd.DataFrame(part))
        return pd.concat(parts, ignore_index=True)


def beyond(measure: Callable[[int], Bounds], width: int | None) -> Bounds:
    """Returns a measure of what is beyond rank d + 1; NaN where there is no d."""
    return Bounds(np.nan, np.nan) if width is None else measure(width + 1)


def _numbers(measured: MeasuredGroup, run: RunResult, spectra: OutputSpectra) -> dict[str, Any]:
    n_queries, n_items = spectra.raw.shape
    row: dict[str, Any] = {
        "model": run.model,
        "label": measured.group.label,
        "run": run.run_id,
        "seed": run.seed,
        "d": measured.width,
        "K": measured.n_components,
        "N": n_queries,
        "V": n_items,
        "method": spectra.raw.method,
        "values": len(spectra.raw.values),
        "probabilities": spectra.probabilities,
    }
    for view, spectrum in (("raw", spectra.raw), ("centred", spectra.centred)):
        row |= {
            f"{view} largest": spectrum.largest,
            f"{view} threshold": spectrum.threshold,
            f"{view} residual": spectrum.residual,
        }
        bounds = {"rank": spectrum.rank()}
        bounds |= {f"rank above {relative:g}": spectrum.rank(relative) for relative in RELATIVE_THRESHOLDS}
        bounds["effective rank"] = spectrum.effective_rank()
        bounds["energy beyond d+1"] = beyond(spectrum.energy_beyond, spectra.width)
        bounds["nats beyond d+1"] = beyond(spectrum.distance_beyond, spectra.width)
        for name, bound in bounds.items():
            row |= {f"{view} {name}": bound.low, f"{view} {name} most": bound.high}
    return row
