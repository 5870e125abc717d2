"""The benchmark: tuned models on several data sets, a page for each data set and one over all of them.

    python benchmarks/benchmark.py --dry-run                      # what would run, and about how long each part takes
    python benchmarks/benchmark.py                                # ml-100k, and the data sets that are in dataset/
    python benchmarks/benchmark.py --dataset beauty ml-1m --seeds 1 2 3 --samples 8
    python benchmarks/benchmark.py --recbole --gpus-per-trial 0.25            # RecBole's own sequential classes too
    python benchmarks/benchmark.py --finished                     # trains nothing: keeps and shows what has finished

Interrupted in whatever way, the same command goes on, and ends with the same tables but for costs. Every step is a
command of mos-recbole that is printed before it is run. `--key=value` arguments go to all sweeps. configs/benchmark/
has the models with their search spaces and the protocol of each data set; configs/references/ has the published
figures. docs/benchmark.md says what is compared.

The searches are in --work. The runs of every model's chosen configuration go to --output, without models and without
names of users and items, and take the place of those that it has of the model, unless these are newer or of more seeds.
So a benchmark grows: data sets and models join those that were run before, elsewhere or by an earlier version. The page
over all of them is made of --output alone.
"""

import argparse
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from mos_recbole.analysis import Reference, RunGroup, join_trials, read_reference, read_study
from mos_recbole.cli import main as mos_recbole
from mos_recbole.errors import InputError
from mos_recbole.io import exclusive_lock
from mos_recbole.report.overview import write_overview
from mos_recbole.results import (
    RECORD_FILE,
    RUNS_FOLDER,
    SWEEP_FILE,
    RunResult,
    find_records,
    keep_run,
    read_trials,
    remove_runs,
    results_folders,
)

CONFIGS = Path(__file__).parents[1] / "configs"
DATASETS = ("ml-100k", "ml-1m", "beauty", "sports", "diginetica", "ml-25m")
BUILT_IN = "ml-100k"
WORK = Path("work/benchmark")
OUTPUT = Path("results/benchmark")
SEARCHES = ("models", "recbole")
TRIALS = "trials.csv"
METRICS = ("NDCG@10", "Recall@10", "MRR@10", "Recall@100")


def commands(
    options: argparse.Namespace, passed: Sequence[str], references: Mapping[Path, Reference]
) -> Iterator[list[str]]:
    """Yields the steps as arguments of mos-recbole: of each data set its sweeps, then its report, if any run ended."""
    for dataset in options.dataset:
        results = options.work / dataset
        for name in SEARCHES if options.recbole else SEARCHES[:1]:
            if not options.finished:
                yield _sweep(name, dataset, results, options, passed)
        if not options.dry_run and _has_runs(results):
            known = [path for path, reference in references.items() if reference.dataset == dataset]
            published = ["--reference", *map(str, known)] if known else []
            shown = ["--metrics", *METRICS, *published, "--output", str(results / "report")]
            yield ["report", str(results), *shown]


def _sweep(name: str, dataset: str, results: Path, options: argparse.Namespace, passed: Sequence[str]) -> list[str]:
    folder = CONFIGS / "benchmark"
    place = dataset if dataset == BUILT_IN else str(options.data_path / dataset)
    command = ["sweep", str(folder / f"{name}.yaml"), "--dataset", place, "--config", str(folder / f"{dataset}.yaml")]
    command += ["--output", str(results)]
    for key in ("samples", "cpus_per_trial", "gpus_per_trial", "max_concurrent"):
        if (value := getattr(options, key)) is not None:
            command += [f"--{key.replace('_', '-')}", str(value)]
    command += ["--seeds", *map(str, options.seeds)] if options.seeds else []
    return [*command, *(["--dry-run"] if options.dry_run else []), *passed]


def _has_runs(results: Path) -> bool:
    return results.is_dir() and bool(find_records(results))


def keep_chosen(results: Path, kept: Path) -> list[str]:
    """Copies the runs of every model's chosen configuration, and the list of trials among which it was chosen.

    Those of a model that are there by the same protocol are replaced, and its trials, unless they are newer or of more
    seeds. What validation chooses is known at the end of a search only. Returns a line for every model that is not
    kept.

    Args:
        results: the searches on a data set.
        kept: folder of the data set.

    Raises:
        InputError: a file of the runs is missing or broken; no run was removed.
    """
    replaced, models, left_out = list[RunResult](), set[str](), list[str]()
    searching = _searching(results)
    there = find_records(kept) if _has_runs(kept) else []
    for section in read_study([results]).sections:
        for model, group in section.best.items():
            rivals = [run for run in there if (run.model, run.protocol_hash) == (model, group.runs[0].protocol_hash)]
            if model in searching:
                left_out.append(
                    f"{results}: the search of {model} has not ended, so that none of its runs is kept: "
                    f"{len(searching[model])} trials are to be done. The same command goes on; of trials that it does "
                    f"not plan any more, remove the files, such as {searching[model][0]}"
                )
                continue
            if reason := _reason_to_stay(group, rivals):
                left_out.append(
                    f"{kept}: the runs of {model} stay, since they are {reason} than those in {results}; "
                    "what `mos-recbole rm` removes is replaced"
                )
                continue
            for run in group.runs:
                keep_run(run, kept / RUNS_FOLDER / run.folder.name)
            models.add(model)
            ours = {run.run_id for run in group.runs}
            replaced += [run for run in rivals if run.run_id not in ours]
    # Left of a call that was interrupted.
    halves = [path for path in (kept / RUNS_FOLDER).glob("*") if path.is_dir() and not (path / RECORD_FILE).exists()]
    if removed := [*(run.folder for run in replaced), *halves]:
        remove_runs(removed)
    _keep_trials([results / name / TRIALS for name in SEARCHES], kept / TRIALS, models)
    return left_out


def _searching(results: Path) -> dict[str, list[Path]]:
    """Returns the models of which trials are still to be done, with the files of these."""
    found: dict[str, list[Path]] = {}
    for sweep in (place for place in results_folders(results) if (place / SWEEP_FILE).exists()):
        for trial in read_trials(sweep):
            if trial.status(sweep) == "unfinished":
                found.setdefault(trial.model, []).append(trial.path(sweep))
    return found


def _reason_to_stay(group: RunGroup, there: Sequence[RunResult]) -> str:
    """Returns what runs that are there are more than those of a search, in which case they are not replaced."""
    if len({run.seed for run in there}) > len(group.runs):
        return "of more seeds"
    ours, theirs = (max((run.finished for run in runs), default="") for runs in (group.runs, there))
    return "newer" if theirs > ours else ""


def _keep_trials(searched: Sequence[Path], kept: Path, models: Collection[str]) -> None:
    # As text, so that no number changes.
    found = [pd.read_csv(path, dtype=str) for path in searched if path.exists()]
    if not found or not models:
        return
    before = [pd.read_csv(kept, dtype=str)] if kept.exists() else []
    frames = [frame[~frame["model"].isin(models)] for frame in before]
    frames += [frame[frame["model"].isin(models)] for frame in found]
    join_trials(frames).to_csv(kept, index=False, lineterminator="\n")


def _write_page(output: Path, datasets: Sequence[str], references: Sequence[Reference]) -> None:
    folders = [output / dataset for dataset in datasets]
    place = [] if output == OUTPUT else ["--output", str(output)]
    command = shlex.join(["python", "benchmarks/benchmark.py", "--finished", *place])
    trials = {folder.name: pd.read_csv(folder / TRIALS) for folder in folders if (folder / TRIALS).exists()}
    note = "All configurations are on the pages of the searches, report/report.html in the work folder of a data set."
    page, *others = write_overview(output, folders, METRICS, command, references, trials, [note])
    print(f"\n{page}\nand {len(others)} files of tables and figures beside it, in tables/ and figures/")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset", nargs="+", choices=DATASETS, help="(default: all that are there)")
    parser.add_argument("--samples", type=int, metavar="N", help="configurations of each model (default: 12)")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="(default: five)")
    parser.add_argument("--recbole", action="store_true", help="RecBole's own sequential classes too, for a GPU")
    parser.add_argument("--data-path", type=Path, default=Path("dataset"), metavar="FOLDER", help="(default: dataset)")
    parser.add_argument("--work", type=Path, default=WORK, metavar="FOLDER", help=f"for searches (default: {WORK})")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="FOLDER", help=f"for results (default: {OUTPUT})"
    )
    parser.add_argument("--cpus-per-trial", type=int, metavar="N")
    parser.add_argument("--gpus-per-trial", type=float, metavar="X")
    parser.add_argument("--max-concurrent", type=int, metavar="N", help="trials at a time (default: as many as fit)")
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--dry-run", action="store_true", help="print what would run and an estimate, and stop")
    doing.add_argument("--finished", action="store_true", help="train nothing: keep and show what has finished")
    options, passed = parser.parse_known_args()
    choosing = {"--samples": options.samples, "--seeds": options.seeds, "--recbole": options.recbole}
    choosing |= dict.fromkeys(passed, True)
    if options.finished and (chosen := [name for name, value in choosing.items() if value]):
        parser.error(f"--finished shows what there is; {chosen[0]} is for searches")
    if unknown := [argument for argument in passed if not argument.startswith("--") or "=" not in argument]:
        parser.error(f"argument {unknown[0]!r} not understood; settings are given as --key=value")
    work, output = options.work.resolve(), options.output.resolve()
    if work.is_relative_to(output) or output.is_relative_to(work):
        parser.error(
            "--work and --output are one in the other; expected two folders, since the runs of --output are replaced"
        )
    places = [options.work, options.output] if options.finished else [options.data_path]
    there = [name for name in DATASETS if any((place / name).is_dir() for place in places)]
    if not options.finished and BUILT_IN not in there:
        there.insert(0, BUILT_IN)
    if absent := [name for name in options.dataset or DATASETS if name not in there]:
        searched = " and ".join(map(str, places))
        if options.dataset is not None:
            parser.error(f"no folder {absent[0]} in {searched}; docs/benchmark.md says where data come from")
        print(f"Left out, since there is no such folder in {searched}: {', '.join(absent)}", file=sys.stderr)
    options.dataset = options.dataset or there
    # Read before anything is trained.
    references = {path: read_reference(path) for path in sorted((CONFIGS / "references").glob("*.yaml"))}
    worst = 0
    for command in commands(options, passed, references):
        print(f"\n$ {shlex.join(['mos-recbole', *command])}", flush=True)
        status = mos_recbole(command)
        # A sweep returns 1 where trials failed; the page is of the others.
        if status > 1 or (status and command[0] != "sweep"):
            return status
        worst = max(worst, status)
    if options.dry_run:
        return worst
    options.output.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(options.output, 0, "folder of results"):
        for name in options.dataset:
            if _has_runs(options.work / name):
                for line in keep_chosen(options.work / name, options.output / name):
                    print(line, file=sys.stderr)
        having = [name for name in DATASETS if _has_runs(options.output / name)]
        if absent := [name for name in options.dataset if name not in having]:
            print(f"No finished runs, so no pages: {', '.join(absent)}", file=sys.stderr)
        if not having:
            return worst or 2
        _write_page(options.output, having, list(references.values()))
    return worst


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
