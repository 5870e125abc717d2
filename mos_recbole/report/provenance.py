"""Where a section's numbers come from: data, split, seeds, code and settings, in words."""

from collections.abc import Iterable

from mos_recbole.analysis.study import Section, flatten
from mos_recbole.results import RunResult

_CANDIDATES = {
    "all": "all items of the data set",
    "trained": "items that training holds; a target that it does not hold is a miss",
}
_TIES = {
    "mean": "a target that shares its score with others is ranked in their middle",
    "optimistic": "a target that shares its score with others is ranked before them",
    "pessimistic": "a target that shares its score with others is ranked after them",
}


def section_facts(section: Section) -> list[tuple[str, str]]:
    """Returns what was measured on what, how and with which code, as names and texts."""
    runs, first = section.runs, section.runs[0]
    protocol, data = first.protocol, first.data
    split = protocol["split"]
    details = ", ".join(f"{key} {value}" for key, value in flatten(split).items() if key != "name")
    counts = [
        f"{key.replace('_', ' ')} {_count(key, value)}" for key, value in data.items() if isinstance(value, int | float)
    ]
    facts = {
        "Data set": f"{first.dataset}: {', '.join(counts)}",
        "Equal times": f"in {first.settings['tie_order']} order" if "tie_order" in first.settings else "",
        "Split": f"{split['name']}" + (f" ({details})" if details else ""),
        "Leakage": next(
            (run.split_leakage for run in runs if run.split_leakage), "not recorded by these runs' version"
        ),
        "Candidates": _CANDIDATES.get(protocol.get("candidates", ""), str(protocol.get("candidates", "")))
        + ("; without those of the user's history" if protocol.get("filter_seen") else ""),
        "Ties": _TIES.get(protocol["tie_rule"], protocol["tie_rule"]),
        "Seeds": _listed(str(seed) for seed in sorted({run.seed for run in runs})),
        "Runs": f"{len(runs)}, in {len(section.groups)} configurations",
        "Code": _listed(run.code for run in runs),
        "Commit": _listed(run.git_commit or "not under version control" for run in runs),
        "Packages": _listed(f"{name} {version}" for run in runs for name, version in run.versions.items()),
        "Device": _listed(run.device for run in runs),
        "Newest run": moment(max(run.finished for run in runs)),
        "Protocol": first.protocol_hash,
        "Fingerprint of the data": str(data.get("fingerprint", "")),
    }
    return [(name, text) for name, text in facts.items() if text]


def protocol_line(run: RunResult) -> str:
    """Returns on which data, by which split and among which candidates a run was tested, in a sentence."""
    counts = [f"{run.data[key]:,} {key}" for key in ("users", "items", "interactions") if key in run.data]
    seen = "are left out" if run.protocol.get("filter_seen") else "are candidates"
    return f"{run.dataset}: {', '.join(counts)}; split {run.protocol['split']['name']}; items of the history {seen}."


def section_settings(section: Section) -> list[tuple[str, str]]:
    """Returns every setting with its values, those first in which runs differ."""
    all_settings = [flatten(run.settings) for run in section.runs]
    keys = sorted({key for settings in all_settings for key in settings})
    values = {key: sorted({settings[key] for settings in all_settings if key in settings}, key=_size) for key in keys}
    in_order = sorted(keys, key=lambda key: len(values[key]) == 1)
    return [(key, ", ".join(values[key])) for key in in_order]


def moment(finished: str) -> str:
    """Returns when a run finished, to the second; records are in UTC."""
    return f"{finished[:19].replace('T', ' ')} UTC"


def _count(key: str, value: float) -> str:
    """Returns a count, a share in percent, or a time as it is."""
    if key.endswith("_share"):
        return f"{value:.1%}"
    return str(value) if key.endswith("_from") else f"{value:,}"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _size(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text
