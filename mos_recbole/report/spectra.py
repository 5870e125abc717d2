"""Spectra side by side: how large is the rank of what models say?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mos_recbole.analysis import (
    RunGroup,
    attributes,
    find_run_groups,
    require_distinct_runs,
    require_one_protocol,
)
from mos_recbole.evaluation import Bounds, OutputSpectra, Spectrum
from mos_recbole.evaluation.spectrum import DOUBLE, RELATIVE_THRESHOLDS, SINGLE
from mos_recbole.report.table import Cell, Table
from mos_recbole.results import RunResult

View = Literal["raw", "centred"]
VIEWS: tuple[View, View] = ("raw", "centred")

# Of these the table shows one; the file has all.
_SHOWN_THRESHOLD = RELATIVE_THRESHOLDS[0]
_COMPONENTS = "mos_heads"
_OF_LAYERS = "doc_heads"
_WIDTHS = ("embedding_size", "hidden_size")
_TEXT_COLUMNS = ("model", "method")
_SCORES_MARK = " †"


@dataclass(frozen=True)
class MeasuredSide:
    """A configuration with the spectra of its runs.

    Attributes:
        side: the runs.
        spectra: of each of them, in their order.
    """

    side: RunGroup
    spectra: tuple[OutputSpectra, ...]

    @property
    def model(self) -> str:
        return self.side.runs[0].model

    @property
    def width(self) -> int | None:
        """d."""
        return self.spectra[0].width

    @property
    def n_components(self) -> int | None:
        """K; None for a model that is no mixture."""
        settings = self.side.runs[0].settings
        return sum(settings[_OF_LAYERS]) if _OF_LAYERS in settings else settings.get(_COMPONENTS)

    @property
    def label(self) -> str:
        """The model, with the settings that tell it from others beside d and K."""
        values = attributes(self.side.runs[0])
        shown = {_COMPONENTS, *(key for key in _WIDTHS if values.get(key) == self.width)}
        words = self.side.label.split(" ")
        return " ".join(word for word in words if word.partition("=")[0] not in shown)

    def views(self, view: View) -> list[Spectrum]:
        """Returns the runs' spectra, raw or centred."""
        return [spectra.raw if view == "raw" else spectra.centred for spectra in self.spectra]


@dataclass(frozen=True)
class Spectra:
    """Some configurations, measured on the same queries.

    Attributes:
        query_seed: by which the queries were drawn.
    """

    sides: tuple[MeasuredSide, ...]
    query_seed: int

    def frame(self) -> pd.DataFrame:
        """Returns a row a run, with all numbers as they are."""
        return pd.DataFrame(
            [
                _numbers(measured, run, spectra) | {"query seed": self.query_seed}
                for measured in self.sides
                for run, spectra in zip(measured.side.runs, measured.spectra, strict=True)
            ]
        )

    def singular_values(self) -> pd.DataFrame:
        """Returns a row a singular value: of which run, raw or centred, its number from 1, and its value."""
        parts = [
            pd.DataFrame({"run": run.run_id, "view": view, "number": np.arange(1, len(values) + 1), "value": values})
            for measured in self.sides
            for view in VIEWS
            for run, values in zip(
                measured.side.runs, (spectrum.values for spectrum in measured.views(view)), strict=True
            )
        ]
        return pd.concat(parts, ignore_index=True)

    def caption(self) -> str:
        """Returns what the table's numbers mean, in a few lines."""
        first = self.sides[0].spectra[0].raw
        n_queries, n_items = first.shape
        lines = [
            f"Log-probabilities, in float64, of {n_items:,} items (V) for {n_queries:,} validation queries (N, drawn "
            f"with seed {self.query_seed}, the same in all rows). Centred: means of rows and of columns subtracted. "
            "A softmax of width d has rank d + 1, d + 2 with an item bias; centred d.",
            f"rank: singular values above σ₁ max(N, V) ε, σ₁ that of the raw matrix, ε = {DOUBLE:.2g}: above "
            f"{max(first.shape) * DOUBLE:.2g} σ₁. > 1 %: above 1 % of the largest, centred. eff. rank: exp of the "
            "entropy of σ / Σσ.",
            "beyond d+1: share of the sum of squares that the nearest matrix of rank d + 1 lacks; nats: root mean "
            "square of what it lacks, an entry, centred.",
            *self._methods(),
        ]
        if any(len(measured.spectra) > 1 for measured in self.sides):
            lines.append("Of several seeds: ranks from the least to the most, others mean ± standard deviation.")
        if any(not measured.spectra[0].probabilities for measured in self.sides):
            lines.append(
                f"{_SCORES_MARK.strip()}: RecBole's own class, whose scores need not be logits: log-softmax of the "
                f"scores, which are in float32; rank with ε = {SINGLE:.2g}."
            )
        return "\n".join(lines)

    def _methods(self) -> Iterator[str]:
        """Yields what is to be known of the methods' errors."""
        spectra = [spectrum for measured in self.sides for view in VIEWS for spectrum in measured.views(view)]
        if any(spectrum.method == "exact" for spectrum in spectra):
            yield "exact: all singular values, to rounding (LAPACK)."
        randomised = [spectrum for spectrum in spectra if spectrum.method == "randomised"]
        if randomised:
            worst = max(_relative_residual(spectrum) for spectrum in randomised)
            found = min(len(spectrum.values) for spectrum in randomised)
            yield (
                f"randomised: the {found:,} largest singular values; each is at least σ as found and at most "
                f"√(σ² + r²), with the residual r at most {worst:.2g} σ₁ (of each row in spectrum.csv). ≥, and two "
                "numbers: what is certain of all."
            )


def spectra_table(spectra: Spectra) -> Table:
    """Returns a table with a row per configuration."""
    rows = [
        {name: Cell(text, is_text=name in _TEXT_COLUMNS) for name, text in _texts(measured).items()}
        for measured in spectra.sides
    ]
    return Table("spectrum", "Spectra", spectra.caption(), rows, spectra.frame())


def find_spectrum_sides(names: Sequence[str], folders: Sequence[Path], dataset: str | None = None) -> list[RunGroup]:
    """Returns a side for every configuration that the names stand for, as `find_run_groups`.

    Raises:
        InputError: as there; a run on two sides; different protocols, which have different queries; or a run without
            its checkpoint.
    """
    sides = find_run_groups(names, folders, dataset=dataset, every=True)
    require_distinct_runs(sides)
    require_one_protocol(sides)
    for run in (run for side in sides for run in side.runs):
        run.checkpoint()
    return sides


def _numbers(measured: MeasuredSide, run: RunResult, spectra: OutputSpectra) -> dict[str, Any]:
    n_queries, n_items = spectra.raw.shape
    row: dict[str, Any] = {
        "model": run.model,
        "label": measured.side.label,
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
            **_bounds(f"{view} rank", spectrum.rank()),
        }
        for relative in RELATIVE_THRESHOLDS:
            row |= _bounds(f"{view} rank above {relative:g}", spectrum.rank(relative))
        row |= _bounds(f"{view} effective rank", spectrum.effective_rank())
        row |= _bounds(f"{view} energy beyond d+1", _beyond(spectrum.energy_beyond, spectra.width))
        row |= _bounds(f"{view} nats beyond d+1", _beyond(spectrum.distance_beyond, spectra.width))
    return row


def _texts(measured: MeasuredSide) -> dict[str, str]:
    width, components = measured.width, measured.n_components
    raw, centred = measured.views("raw"), measured.views("centred")
    n_queries, n_items = raw[0].shape
    return {
        "model": measured.label + ("" if measured.spectra[0].probabilities else _SCORES_MARK),
        "d": "-" if width is None else str(width),
        "K": "-" if components is None else str(components),
        "seeds": str(len(measured.spectra)),
        "N": f"{n_queries:,}",
        "V": f"{n_items:,}",
        "method": raw[0].method,
        "rank": _ranks(raw),
        "rank, centred": _ranks(centred),
        f"> {_SHOWN_THRESHOLD:.0%}".replace("%", " %"): _ranks(centred, _SHOWN_THRESHOLD),
        "eff. rank": _mean([spectrum.effective_rank() for spectrum in raw], ".1f"),
        "eff. rank, centred": _mean([spectrum.effective_rank() for spectrum in centred], ".1f"),
        "beyond d+1": _mean([_beyond(spectrum.energy_beyond, width) for spectrum in raw], ".2g"),
        "beyond d+1, centred": _mean([_beyond(spectrum.energy_beyond, width) for spectrum in centred], ".2g"),
        "nats": _mean([_beyond(spectrum.distance_beyond, width) for spectrum in centred], ".2g"),
    }


def _bounds(name: str, bounds: Bounds) -> dict[str, float]:
    """Returns the columns "name", which is the least it can be, and "name most"."""
    return {name: bounds.low, f"{name} most": bounds.high}


def _beyond(measure: Callable[[int], Bounds], width: int | None) -> Bounds:
    """Returns a measure of what is beyond rank d + 1; NaN where there is no d."""
    return Bounds(np.nan, np.nan) if width is None else measure(width + 1)


def _ranks(spectra: Sequence[Spectrum], relative: float = 0.0) -> str:
    """Returns "33", "1,021–1,030" or "≥ 512"."""
    ranks = [spectrum.rank(relative) for spectrum in spectra]
    low, high = min(rank.low for rank in ranks), max(rank.high for rank in ranks)
    if any(rank.low < rank.high == spectrum.full_rank for rank, spectrum in zip(ranks, spectra, strict=True)):
        return f"≥ {low:,}"
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _mean(bounds: Sequence[Bounds], form: str) -> str:
    """Returns "34.5 ± 0.3", the mean with the standard deviation over seeds; "34.5–36.2" where not more is known."""
    low, high = (np.array([getattr(one, end) for one in bounds]) for end in ("low", "high"))
    if np.isnan(low).any():
        return "-"
    if not high.any():
        return "0"
    ends = list(dict.fromkeys(f"{end.mean():{form}}" for end in (low, high)))
    return "–".join(ends) + (f" ± {low.std(ddof=1):{form}}" if len(low) > 1 else "")


def _relative_residual(spectrum: Spectrum) -> float:
    return spectrum.residual / spectrum.largest if spectrum.largest else 0.0
