"""The table of a comparison."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mos_recbole.analysis.compare import Comparison, Comparisons
from mos_recbole.analysis.run_groups import RunGroup
from mos_recbole.report.formatting import (
    NOTHING,
    arrow,
    difference_cell,
    format_count,
    format_p_value,
    interval_columns,
    number_cell,
    p_value_cell,
    words,
)
from mos_recbole.report.runs import setting_cells
from mos_recbole.report.table import Cell, Table
from mos_recbole.results import code_name, setting_columns


def comparisons_table(comparisons: Comparisons, left_out: Sequence[str] = ()) -> Table:
    """Returns a table with a row per comparison, without the columns of some headers; its frame has all."""
    return Table(
        name="comparisons",
        title="Comparisons in pairs",
        caption=_caption(comparisons, left_out),
        rows=[{name: cell for name, cell in _cells(row).items() if name not in left_out} for row in comparisons.rows],
        frame=pd.DataFrame([_numbers(row) for row in comparisons.rows]),
    )


_NOT_OF_PAIRS = ("A", "B", "d_z", "p", "p (flips)")
_MOST_NAMED = 4  # groups with one seed


def pairs_table(comparisons: Comparisons, pairs: Sequence[tuple[RunGroup, RunGroup]]) -> Table:
    """Returns `comparisons_table` for models beside their baselines: settings as short columns, fewer statistics.

    Args:
        comparisons: of the pairs.
        pairs: each a baseline and a model.
    """
    columns, stands_for = setting_columns([model.runs[0] for _, model in pairs])
    table = comparisons_table(comparisons, _NOT_OF_PAIRS)
    number = {model.label: row for row, (_, model) in enumerate(pairs)}
    runs = {group.label: group.runs[0] for pair in pairs for group in pair}
    rows = [
        {
            "model": words(runs[row.second].model),
            **setting_cells(columns, number[row.second]),
            "baseline": words(runs[row.first].model),
            **cells,
        }
        for row, cells in zip(comparisons.rows, table.rows, strict=True)
    ]
    said = "A is the baseline of B, the model, in all settings that both have the same."
    caption = "\n".join(filter(None, [said, table.caption, stands_for]))
    return Table("paired", "Differences from the baseline in the same settings", caption, rows, table.frame)


def finding(first: RunGroup, second: RunGroup, row: Comparison, said_of: Mapping[str, str]) -> str:
    """Returns what a comparison of a model with its baseline says, in words.

    Args:
        first: the baseline, as validation chose it.
        second: the model, as validation chose it.
        row: their comparison.
        said_of: the settings of configurations in words, by label.
    """
    models = [first.runs[0].model, second.runs[0].model]
    settings = [
        ", ".join(filter(None, [said_of[group.label], format_count(len(group.runs), "seed")]))
        for group in (first, second)
    ]
    chosen = " Validation chose the settings." if first.by_validation or second.by_validation else ""
    code = different_code((first, second))
    if row.adjusted_p_value is None:
        tested = "no p with one seed a side: the interval is given these trained models"
    else:
        tested = f"p {format_p_value(row.adjusted_p_value).replace('<', '< ')}"
    return (
        f"{_verdict(row, *models)}: {row.metric} {row.second_mean:.4f} against {row.first_mean:.4f}, a difference of "
        f"{row.difference.effect:+.4f} (95 % interval {row.difference.low:+.4f} to {row.difference.high:+.4f}), "
        f"{tested}. By itself, a test would find a difference of {100 * row.detectable:.1f} % in 80 % of such "
        "comparisons. "
        f"{models[1]}: {settings[1]}; {models[0]}: {settings[0]}.{chosen}{f' {code}' if code else ''}"
    )


def _verdict(row: Comparison, first: str, second: str) -> str:
    """Returns what is shown of the second model against the first."""
    match row.verdict:
        case None:
            return f"{second} beside {first}"
        case "equivalent":
            return f"{second} and {first} are equivalent within ± {100 * row.margin:g} %"
        case "undecided":
            return f"No difference shown between {second} and {first}, nor that they are equivalent"
        case "better" | "worse":
            return f"{second} is {row.verdict} than {first}"


def different_code(groups: Sequence[RunGroup]) -> str:
    """Returns what is to be said of groups that different code computed; "" where there is one code."""
    if len({group.runs[0].code for group in groups}) == 1:
        return ""
    codes = {group.label: f" code={code_name(group.runs[0])}" for group in groups}
    named = ", ".join(label if code in label else label + code for label, code in codes.items())
    return f"Computed by different code, which may be why they differ: {named}."


def cautions(groups: tuple[RunGroup, ...]) -> list[str]:
    """Returns what a caption must say of groups with one seed, of different code, and that validation chose."""
    lines = list(filter(None, [different_code(groups)]))
    if single := [group.label for group in groups if len(group.runs) == 1]:
        of_whom = f" of {', '.join(single)}" if len(single) <= _MOST_NAMED else ""
        lines.append(
            f"With one seed, nothing is said of other seeds{of_whom}: there is no p, and intervals are given these "
            "trained models."
        )
    if chosen := [group.label for group in groups if group.by_validation]:
        lines.append(f"Configurations chosen by validation: {', '.join(chosen)}.")
    return lines


def _cells(row: Comparison) -> dict[str, Cell]:
    relative = row.relative.mean if row.relative else float("nan")
    return {
        "A": words(row.first),
        "B": words(row.second),
        "metric": words(f"{row.metric} {arrow(row.metric)}"),
        "mean A": number_cell(row.first_mean, ".4f"),
        "mean B": number_cell(row.second_mean, ".4f"),
        "B - A [95 % interval]": difference_cell(row.difference),
        "relative": Cell(f"{100 * relative:+.2f} %" if row.relative else "n/a", relative),
        "d_z": NOTHING if row.effect_size is None else number_cell(row.effect_size.mean, "+.3f"),
        "p": p_value_cell(row.difference.p_over_seeds),
        "p (Holm)": p_value_cell(row.adjusted_p_value),
        "p (flips)": p_value_cell(row.sign_flip_p_value if row.difference.over_seeds else None),
        "detectable": NOTHING if np.isnan(row.detectable) else Cell(f"{100 * row.detectable:.1f} %", row.detectable),
        "verdict": words(row.verdict or NOTHING.text),
    }


def _caption(comparisons: Comparisons, left_out: Sequence[str] = ()) -> str:
    """Returns what the table's numbers mean, in a few lines, but for columns that it leaves out."""
    groups, n_queries = comparisons.groups, comparisons.n_queries
    numbers = {len(group.runs) for group in groups}
    seeds = (
        format_count(numbers.pop(), "seed")
        if len(numbers) == 1
        else "seeds (" + ", ".join(f"{group.label}: {len(group.runs)}" for group in groups) + ")"
    )
    tested = sum(row.adjusted_p_value is not None for row in comparisons.rows)
    d_z = "" if "d_z" in left_out else " d_z: in standard deviations of users' differences."
    lines = [
        f"B - A: difference of the means over {seeds} and {format_count(n_queries, 'query', 'queries')} of "
        f"{format_count(comparisons.n_users, 'user')}, the same for all; its interval is not adjusted for the "
        f"number of comparisons. All is given this training set.{d_z}",
    ]
    if tested:
        lines += [
            "p: two-sided, of the null hypothesis that A and B have the same mean over all users and seeds. Users are "
            "the unit, paired; seeds are random too, those of A independent of those of B; Student's t with "
            "Satterthwaite's degrees of freedom (after Clark's min F').",
            "p (Holm), the one to report: p corrected by Holm's method for the "
            f"{format_count(tested, 'comparison')} of this table.",
        ]
    lines.append(
        "detectable: the smallest difference, in % of A, that p < .05, not corrected, would find in about 80 % of such "
        "comparisons."
        + (
            " verdict: better or worse by p (Holm) < .05; else equivalent where two one-sided tests at 5 % put the "
            f"relative difference within ± {100 * comparisons.rows[0].margin:g} %; else undecided."
            if tested
            else ""
        )
    )
    if tested and "p (flips)" not in left_out:
        lines.append(
            "p (flips): of the null hypothesis that users' differences are symmetric about 0, by flips of their signs; "
            "assumes no normality, but takes the seeds as given: of other seeds it says nothing. Not corrected."
        )
    if of_lists := dict.fromkeys(row.metric for row in comparisons.rows if row.signs is None):
        lines.append(f"{', '.join(of_lists)}: of all lists together; the users' part of p is by the bootstrap.")
    for metric, having_none in comparisons.undefined.items():
        lines.append(
            f"No query has {metric}."
            if len(having_none) == len(groups)
            else f"Without {metric}, and so left out there: {', '.join(having_none)}."
        )
    for metric, number in comparisons.n_undefined.items():
        lines.append(f"{metric}: without {number:,} of the queries, for which not all have it.")
    if comparisons.where:
        total = n_queries + comparisons.n_left_out
        lines.append(f"Only the {n_queries:,} of {total:,} queries with {' and '.join(map(str, comparisons.where))}.")
    return "\n".join([*lines, *cautions(groups)])


def _numbers(row: Comparison) -> dict[str, str | float | None]:
    nothing = float("nan")
    over_seeds = row.difference.over_seeds
    better, worse = row.users_better_and_worse or (nothing, nothing)
    return {
        "A": row.first,
        "B": row.second,
        "metric": row.metric,
        "mean A": row.first_mean,
        "mean B": row.second_mean,
        "B - A": row.difference.effect,
        "B - A low": row.difference.low,
        "B - A high": row.difference.high,
        "standard error": row.difference.standard_error,
        "degrees of freedom": row.difference.degrees_of_freedom,
        "bootstrap low": row.bootstrap.low if row.bootstrap else float("nan"),
        "bootstrap high": row.bootstrap.high if row.bootstrap else float("nan"),
        **interval_columns("relative", row.relative),
        **interval_columns("d_z", row.effect_size),
        "p": row.difference.p_value if over_seeds else nothing,
        "p (Holm)": nothing if row.adjusted_p_value is None else row.adjusted_p_value,
        "p (flips)": nothing if row.sign_flip_p_value is None or not over_seeds else row.sign_flip_p_value,
        "p (signs)": row.signs.p_value if row.signs and over_seeds else nothing,
        "detectable": row.detectable,
        "margin": row.margin,
        "equivalent": row.equivalent,
        "verdict": row.verdict,
        "users better": better,
        "users worse": worse,
    }
