"""Measured spectra as a table, singular values and a figure."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mos_recbole.analysis.spectra import VIEWS, MeasuredGroup, Spectra, beyond
from mos_recbole.evaluation import Bounds, Spectrum
from mos_recbole.evaluation.spectrum import DOUBLE, RELATIVE_THRESHOLDS, SINGLE
from mos_recbole.report.folder import new_files
from mos_recbole.report.formatting import number_cell, words
from mos_recbole.report.table import Cell, Table

# The table shows one of them; the file has all.
_SHOWN_THRESHOLD = RELATIVE_THRESHOLDS[0]
_SCORES_MARK = " †"


def spectra_table(spectra: Spectra) -> Table:
    """Returns a row a configuration; the frame has a row a run."""
    rows = [_cells(measured) for measured in spectra.groups]
    return Table("spectrum", "Spectra", "\n".join(_caption(spectra)), rows, spectra.frame())


def write_spectra(spectra: Spectra, output: Path) -> list[Path]:
    """Returns the files that were written into a folder; after an error all are as before.

    Args:
        spectra: what was measured.
        output: the folder, which is made where it is missing.

    Raises:
        InputError: the folder cannot be written to.
    """
    # Here and not above, so that tables do not wait for matplotlib.
    from mos_recbole.report import figures
    from mos_recbole.report.figures.spectra import draw_spectra

    table = spectra_table(spectra)
    with new_files(output) as temporary:
        tables = table.write(temporary)
        spectra.singular_values().to_parquet(temporary / "singular_values.parquet", index=False)
        drawn = figures.save_figure(draw_spectra(spectra), temporary)
    names = [*(path.name for path in tables), "singular_values.parquet", *(path.name for path in drawn)]
    return [output / name for name in names]


def _caption(spectra: Spectra) -> Iterator[str]:
    """Yields what the table's numbers mean, line by line."""
    n_queries, n_items = shape = spectra.groups[0].spectra[0].raw.shape
    yield (
        f"Log-probabilities, in float64, of {n_items:,} items (V) for {n_queries:,} validation queries (N, drawn "
        f"with seed {spectra.query_seed}, the same in all rows). Centred: means of rows and of columns subtracted. "
        "A softmax of width d has rank d + 1, centred d; with an item bias one more each."
    )
    yield (
        f"rank: singular values above σ₁ max(N, V) ε, σ₁ that of the raw matrix, ε = {DOUBLE:.2g}: above "
        f"{max(shape) * DOUBLE:.2g} σ₁. > 1 %: above 1 % of the largest, centred. eff. rank: exp of the "
        "entropy of σ / Σσ."
    )
    yield (
        "beyond d+1: share of the sum of squares that the nearest matrix of rank d + 1 lacks; nats: root mean "
        "square of what it lacks, an entry, centred."
    )
    all_spectra = [spectrum for measured in spectra.groups for view in VIEWS for spectrum in measured.views(view)]
    if any(spectrum.method == "exact" for spectrum in all_spectra):
        yield "exact: all singular values, to rounding (LAPACK)."
    if randomised := [spectrum for spectrum in all_spectra if spectrum.method == "randomised"]:
        worst = max(one.residual / one.largest if one.largest else 0.0 for one in randomised)
        found = min(len(spectrum.values) for spectrum in randomised)
        yield (
            f"randomised: the {found:,} largest singular values; each is at least σ as found and at most "
            f"√(σ² + r²), with the residual r at most {worst:.2g} σ₁ (of each row in spectrum.csv). ≥, and two "
            "numbers: what is certain of all."
        )
    if any(len(measured.spectra) > 1 for measured in spectra.groups):
        yield "Of several seeds: ranks from the least to the most, others mean ± standard deviation."
    if any(not measured.spectra[0].probabilities for measured in spectra.groups):
        yield (
            f"{_SCORES_MARK.strip()}: RecBole's own class, whose scores need not be logits: log-softmax of the "
            f"scores, which are in float32; rank with ε = {SINGLE:.2g}."
        )


def _cells(measured: MeasuredGroup) -> dict[str, Cell]:
    width, components = measured.width, measured.n_components
    raw, centred = measured.views("raw"), measured.views("centred")
    n_queries, n_items = raw[0].shape
    return {
        "model": words(measured.label + ("" if measured.spectra[0].probabilities else _SCORES_MARK)),
        "d": Cell("-" if width is None else str(width), width),
        "K": Cell("-" if components is None else str(components), components),
        "seeds": number_cell(len(measured.spectra), "d"),
        "N": number_cell(n_queries, ",d"),
        "V": number_cell(n_items, ",d"),
        "method": words(raw[0].method),
        "rank": _ranks(raw),
        "rank, centred": _ranks(centred),
        f"> {_SHOWN_THRESHOLD:.0%}".replace("%", " %"): _ranks(centred, _SHOWN_THRESHOLD),
        "eff. rank": _mean([spectrum.effective_rank() for spectrum in raw], ".1f"),
        "eff. rank, centred": _mean([spectrum.effective_rank() for spectrum in centred], ".1f"),
        "beyond d+1": _mean([beyond(spectrum.energy_beyond, width) for spectrum in raw], ".2g"),
        "beyond d+1, centred": _mean([beyond(spectrum.energy_beyond, width) for spectrum in centred], ".2g"),
        "nats": _mean([beyond(spectrum.distance_beyond, width) for spectrum in centred], ".2g"),
    }


def _ranks(spectra: Sequence[Spectrum], relative: float = 0.0) -> Cell:
    """Returns "33", "1,021–1,030" or "≥ 512"."""
    ranks = [spectrum.rank(relative) for spectrum in spectra]
    low, high = min(rank.low for rank in ranks), max(rank.high for rank in ranks)
    if any(rank.low < rank.high == spectrum.full_rank for rank, spectrum in zip(ranks, spectra, strict=True)):
        return Cell(f"≥ {low:,}", low)
    return Cell(f"{low:,}" if low == high else f"{low:,}–{high:,}", low)


def _mean(bounds: Sequence[Bounds], form: str) -> Cell:
    """Returns "34.5 ± 0.3", the mean with the standard deviation over seeds; "34.5–36.2" where not more is known."""
    low, high = (np.array([getattr(one, end) for one in bounds]) for end in ("low", "high"))
    if np.isnan(low).any():
        return Cell("-", np.nan)
    if not high.any():
        return Cell("0", 0.0)
    ends = list(dict.fromkeys(f"{end.mean():{form}}" for end in (low, high)))
    deviation = f" ± {low.std(ddof=1):{form}}" if len(low) > 1 else ""
    return Cell("–".join(ends) + deviation, float(low.mean()))
