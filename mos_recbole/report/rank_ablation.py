"""What cutting to lower ranks costs, as a table and a figure."""

from collections.abc import Iterator
from pathlib import Path

from mos_recbole.analysis.rank_ablation import AblatedGroup, Cut, RankAblation
from mos_recbole.evaluation import OVERLAP, Interval
from mos_recbole.report.folder import new_files
from mos_recbole.report.formatting import NOTHING, arrow, number_cell, words
from mos_recbole.report.table import Cell, Table

_SCORES_MARK = " †"


def rank_ablation_table(ablation: RankAblation) -> Table:
    """Returns a row a configuration and rank."""
    rows = [_cells(group, cut, ablation.metrics) for group in ablation.groups for cut in group.cuts]
    return Table("ablate_rank", "Cut to lower ranks", "\n".join(_caption(ablation)), rows, ablation.frame())


def write_rank_ablation(ablation: RankAblation, output: Path) -> list[Path]:
    """Returns the files that were written into a folder; after an error all are as before.

    Raises:
        InputError: the folder cannot be written to.
    """
    # Here and not above, so that tables do not wait for matplotlib.
    from mos_recbole.report import figures
    from mos_recbole.report.figures.rank_ablation import draw_rank_ablation

    with new_files(output) as temporary:
        written = rank_ablation_table(ablation).write(temporary)
        written += figures.save_figure(draw_rank_ablation(ablation), temporary)
    return [output / path.name for path in written]


def _caption(ablation: RankAblation) -> Iterator[str]:
    """Yields what the table's numbers mean, line by line."""
    first = ablation.groups[0].runs_cuts[0]
    yield (
        f"r: log-probabilities of {first.n_items:,} items for {len(first.user_Q):,} test queries, each row less its "
        f"mean, projected on the r directions that hold most of {first.n_directions_from:,} validation queries' "
        f"(drawn with seed {ablation.query_seed}) and renormalised. full: as they are. A softmax has d directions, "
        "d + 1 with item biases: cut to d + 1 it stays as it is."
    )
    yield (
        "loss: mean negative log-probability of the targets among the candidates, nats. overlap: share of the full top "
        "10 that is left."
    )
    seeds = " and seeds" if all(len(group.group.runs) > 1 for group in ablation.groups) else ""
    yield (
        "r - full: of the same seeds and queries, ± half of the 95 % interval, Student's t over users"
        f"{seeds}; given this training set."
    )
    if single := dict.fromkeys(group.label for group in ablation.groups if len(group.group.runs) == 1):
        yield f"With one seed, the interval is given this trained model: {', '.join(single)}."
    yield (
        "A small loss shows that what is beyond r is not used. A large one does not show that a model of rank r could "
        "not learn as well."
    )
    if any(not group.runs_cuts[0].probabilities for group in ablation.groups):
        yield f"{_SCORES_MARK.strip()}: RecBole's own class, whose scores need not be logits: their log-softmax."


def _cells(group: AblatedGroup, cut: Cut, metrics: list[str]) -> dict[str, Cell]:
    width, components = group.width, group.n_components
    cells = {
        "model": words(group.label + ("" if group.runs_cuts[0].probabilities else _SCORES_MARK)),
        "d": Cell("-" if width is None else str(width), width),
        "K": Cell("-" if components is None else str(components), components),
        "seeds": number_cell(len(group.group.runs), "d"),
        "r": _rank_cell(cut.rank, width),
    }
    for name in metrics:
        shown = name if name == "loss" else f"{name} {arrow(name)}"
        cells[shown] = number_cell(cut.means[name], ".4f")
        cells[f"{name}, r - full"] = NOTHING if cut.rank is None else _change_cell(cut.changes[name])
    half_width = cut.changes[OVERLAP].half_width
    cells[OVERLAP] = Cell(f"{cut.means[OVERLAP]:.3f} ± {half_width:.3f}", cut.means[OVERLAP])
    return cells


def _rank_cell(rank: int | None, width: int | None) -> Cell:
    if rank is None:
        return Cell("full", float("inf"))
    marks = {} if width is None else {width: " = d", width + 1: " = d + 1"}
    return Cell(f"{rank}{marks.get(rank, '')}", rank)


def _change_cell(change: Interval) -> Cell:
    return Cell(f"{change.mean:+.4f} ± {change.half_width:.4f}", change.mean)
