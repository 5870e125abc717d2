"""Estimates in words: how long, until when, in how much memory."""

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import torch
from tabulate import tabulate

from mos_recbole.experiment.estimate import Estimate, earlier_epochs, estimate_cost
from mos_recbole.experiment.identity import data_facts, run_name
from mos_recbole.experiment.machine import choose_device
from mos_recbole.experiment.timing import Span
from mos_recbole.progress import ProgressBar, format_duration
from mos_recbole.results import RECORD_FILE, RUNS_FOLDER
from mos_recbole.settings import Settings

# With a smaller share of the processor's time than this, others are worth a word.
_QUIET = 0.9


def time_in_words(span: Span) -> str:
    """Returns "3 min 20 s to 2 h 05 min", or one of them where they are the same."""
    return " to ".join(dict.fromkeys(map(format_duration, (span.quiet, span.busy))))


def end_in_words(span: Span, now: datetime) -> str:
    """Returns "between 14:05 and 16:20", with dates where one of them is on another day than `now`."""
    ends = [now + timedelta(seconds=seconds) for seconds in (span.quiet, span.busy)]
    form = "%H:%M" if all(end.date() == now.date() for end in ends) else "%d %b %H:%M"
    first, last = (end.strftime(form) for end in ends)
    return f"about {first}" if first == last else f"between {first} and {last}"


def memory_in_words(estimate: Estimate) -> str:
    """Returns "0.71 GB", or "1.20 GB, GPU 3.05 GB"."""
    names = {"resident": "", "gpu": "GPU "}
    return ", ".join(f"{names[kind]}{size / 1e9:.2f} GB" for kind, size in estimate.memory_bytes.items())


def epochs_in_words(settings: Settings, estimate: Estimate, earlier: Sequence[int]) -> str:
    """Returns a sentence: where the numbers of epochs come from."""
    fewest, most = estimate.epochs(settings, earlier)
    if fewest == most:
        return f"{settings.model}: {most} epoch{'s' if most > 1 else ''}."
    if earlier:
        runs = f"{len(earlier)} earlier run{'s' if len(earlier) > 1 else ''} that stopped early"
        why = f"the fewest of {runs}" if len(earlier) > 1 else f"as {runs}"
    else:
        why = f"the fewest with stopping_step {settings.values['stopping_step']}"
    return f"{settings.model}: {fewest} epochs ({why}) to {most} (all)."


def circumstances(estimates: Sequence[Estimate], device: str) -> list[str]:
    """Returns sentences: what was measured, and how far others were in the way."""
    threads = torch.get_num_threads()
    where = "GPU" if device.startswith("cuda") else f"CPU with {threads} thread{'s' if threads > 1 else ''}"
    lines = [f"Measured by a few training steps and a batch of queries on this {where}; nothing is kept of them."]
    quiet = min(estimate.epoch.quiet / estimate.epoch.busy for estimate in estimates)
    if quiet < _QUIET:
        lines.append(
            f"Other processes held this one up for {1 - quiet:.0%} of the time: low ends are for a machine without "
            "them, high ends for one as busy."
        )
    return lines


def too_much_memory(estimate: Estimate, at_a_time: int = 1) -> str | None:
    """Returns a warning where runs need more memory than this machine has; None where they do not, or nobody knows."""
    needed = at_a_time * estimate.memory_bytes["resident"]
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    if needed <= there:
        return None
    what = f"{at_a_time} at a time need" if at_a_time > 1 else "one run needs"
    return f"warning: {what} about {needed / 1e9:.1f} GB of memory; this machine has {there / 1e9:.1f}"


def preview_runs(runs: Sequence[Settings], device: str, results: Path, resume: bool = False) -> str:
    """Returns what runs would cost, one after the other: a table with a row a model, and sentences.

    Args:
        runs: of one data set; those of a model differ in the seed only.
        device: as of `run_experiment`.
        results: folder with earlier runs.
        resume: whether those that are finished there are kept, and cost nothing more.

    Raises:
        InputError: as `run_experiment`.
    """
    left = [one for one in runs if not (resume and _is_finished(one, device, results))]
    finished = [f"{len(runs) - len(left)} of {len(runs)} runs are finished in {results}."] * (len(left) < len(runs))
    if not left:
        return finished[0]
    models: dict[str, list[Settings]] = {}
    for one in left:
        models.setdefault(one.model, []).append(one)
    rows, lines, estimates, total = [], [], [], Span()
    with ProgressBar("measuring", len(models), "models") as bar:
        for model, own in models.items():
            estimate, earlier = estimate_cost(own[:1], device), earlier_epochs(own[0], results)
            fewest, most = estimate.epochs(own[0], earlier)
            span, epoch = estimate.seconds(own[:1], earlier), estimate.epoch + estimate.validation
            total += estimate.imports + span * len(own)
            rows.append(
                {
                    "model": model,
                    "runs": str(len(own)),
                    "parameters": f"{estimate.parameters:,}",
                    "memory": memory_in_words(estimate),
                    "an epoch": time_in_words(epoch),
                    "epochs": str(most) if fewest == most else f"{fewest} to {most}",
                    "a run": time_in_words(span),
                }
            )
            lines.append(epochs_in_words(own[0], estimate, earlier))
            estimates.append(estimate)
            bar.advance(1)
    warnings = dict.fromkeys(filter(None, map(too_much_memory, estimates)))
    count = f"{len(left)} runs, one after the other, take" if len(left) > 1 else "The run takes"
    ends = f"Started now, {'they end' if len(left) > 1 else 'it ends'} {end_in_words(total, datetime.now())}."
    table = tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True)
    return "\n".join(
        [
            table,
            "",
            *finished,
            f"{count} {time_in_words(total)}. {ends}",
            *lines,
            *circumstances(estimates, device),
            *warnings,
        ]
    )


def _is_finished(settings: Settings, device: str, results: Path) -> bool:
    name = run_name(settings, data_facts(settings).fingerprint, choose_device(device).type)
    return (results / RUNS_FOLDER / name / RECORD_FILE).exists()
