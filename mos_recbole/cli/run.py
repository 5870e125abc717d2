"""Trains models on a data set, evaluates them by one protocol and prints a table.

Settings have RecBole's names (docs/settings.md).

examples:
  GRU4Rec with a Mixture-of-Softmaxes head on ml-100k, which comes with RecBole
    %(prog)s --model GRU4RecMoS
  the same against a softmax head and RecBole's own class, with five seeds
    %(prog)s --model GRU4RecMoS GRU4RecSoftmax GRU4Rec --seeds 1 2 3 4 5
  any setting, by RecBole's key
    %(prog)s --model GRU4RecMoS --embedding_size=32 --mos_heads=8 --learning_rate=1e-3
  settings from RecBole YAML files; later files override earlier ones, and arguments override files
    %(prog)s --model SASRecMoS --config configs/base.yaml configs/SASRecMoS.yaml --epochs=50
  your own data: the folder dataset/beauty, which contains beauty.inter
    %(prog)s --model GRU4RecMoS --dataset dataset/beauty
  any table of interactions: .csv, .tsv, .parquet or .gz
    %(prog)s --model GRU4RecMoS --dataset log.csv --columns user=customer,item=product,time=bought
  about how long it takes, in how much memory; nothing is trained to its end
    %(prog)s --model GRU4RecMoS GRU4RecSoftmax --seeds 1 2 3 --dry-run
  continue after an interruption; finished runs are kept
    %(prog)s --model GRU4RecMoS GRU4RecSoftmax --seeds 1 2 3 --resume
"""

import argparse
import logging
import sys
from typing import TYPE_CHECKING, TypeAlias

from mos_recbole.cli.output import complete_runs, is_main, log_for_run
from mos_recbole.cli.parser import Parser, Several
from mos_recbole.errors import InputError, TrainingDiverged

if TYPE_CHECKING:
    from mos_recbole.results import RunResult
    from mos_recbole.settings import Settings

# A run that did not finish: model and seed, and why.
Failure: TypeAlias = tuple[str, InputError | TrainingDiverged]
_log = logging.getLogger(__name__)

LOADS = "mos_recbole.experiment"
_MODEL = (
    "an encoder with a head, such as GRU4RecMoS or NARMSoftmax; a sequential or general model of RecBole; "
    "with --head, an encoder"
)
INTERRUPTED = "--resume continues after the last epoch"


def add_options(parser: Parser) -> None:
    parser.section("models")
    parser.add_argument("--model", action=Several, metavar="NAME", help=_MODEL)
    parser.add_argument("--head", action=Several, metavar="NAME", help="put these heads on every --model: mos, ...")
    parser.add_argument("--match-parameters", action="store_true", help="make all models as large as the first")
    parser.add_shared("--plugin")
    parser.section("data and settings")
    parser.add_argument("--dataset", help="name, folder or file (default: that of --config, or ml-100k, built in)")
    parser.add_argument("--seeds", help="one run for every model and seed (default: 2020)")
    parser.add_shared("--config", "--key=value", "--skip-bad-lines")
    parser.add_argument("--strict", action="store_true", help="refuse keys of --config that a model does not read")
    parser.section("training")
    parser.add_shared("--device")
    parser.add_argument("--dry-run", action="store_true", help="print an estimate of time and memory, and stop")
    parser.add_argument("--resume", action="store_true", help="keep finished runs, continue unfinished ones")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="train each model by N processes")
    parser.add_argument("--energy", action="store_true", help="record kWh as codecarbon estimates them, offline")
    parser.section("output")
    parser.add_shared("--output")


def call(options: argparse.Namespace) -> int:
    # Not at the top, so that --help and ls do not wait for PyTorch.
    from mos_recbole.analysis import Trained, partner_notes
    from mos_recbole.experiment import count_parameters, load_settings, match_parameters, preview_runs
    from mos_recbole.models import load_plugin, model_name
    from mos_recbole.settings import named_model

    for plugin in options.plugin:
        load_plugin(plugin)
    # A model or a seed that is named twice runs once.
    models = dict.fromkeys(options.model or [named_model(options.config, options.settings)])
    if options.head:
        models = dict.fromkeys(model_name(encoder, head) for encoder in models for head in options.head)
    seeds = [[f"--seed={seed}"] for seed in dict.fromkeys(options.seeds or [])] or [[]]
    runs = [
        load_settings(model, options.dataset, options.config, [*options.settings, *seed], models, options.strict)
        for model in models
        for seed in seeds
    ]
    if options.match_parameters:
        n_parameters = count_parameters(runs[0])
        runs = [one if one.model == runs[0].model else match_parameters(one, n_parameters) for one in runs]
    trained = [Trained(one.model, one.encoder, one.baseline, one.values["train_mode"]) for one in runs]
    for warning in [*dict.fromkeys(warning for one in runs for warning in one.warnings), *partner_notes(trained)]:
        _log.warning(warning)
    if options.dry_run:
        if options.processes > 1:
            _log.warning("the estimate is of one process")
        if is_main():
            print(preview_runs(runs, options.device, options.output, options.resume))
        return 0
    records, failures = _train(runs, options)
    refused = any(isinstance(error, InputError) for _, error in failures)
    if failures and not records:
        if refused:
            raise InputError("\n".join(dict.fromkeys(str(error) for _, error in failures)))
        raise TrainingDiverged("; ".join(f"{name}: {error}" for name, error in failures))
    if is_main():
        _print(records, failures, runs[0])
    if refused:
        return 2
    return 1 if failures else 0


def _train(runs: "list[Settings]", options: argparse.Namespace) -> "tuple[list[RunResult], list[Failure]]":
    """Returns the records of the runs that finished, and the others with their errors."""
    from mos_recbole.cli.progress import EpochProgress
    from mos_recbole.experiment import run_experiment

    records: list[RunResult] = []
    failures: list[Failure] = []
    for number, one in enumerate(runs, start=1):
        name = f"[{number}/{len(runs)}] {one.model} seed {one.values['seed']}"
        with log_for_run(name), EpochProgress(name, one, quiet=options.quiet or not is_main()) as progress:
            try:
                record = run_experiment(
                    one,
                    output=options.output,
                    device=options.device,
                    resume=options.resume,
                    on_epoch=progress.epoch,
                    show_progress=progress.draws,
                    energy=options.energy,
                )
            except (InputError, TrainingDiverged) as error:  # the other runs go on
                failures.append((f"{one.model} seed {one.values['seed']}", error))
                continue
        records.append(record)
    return records, failures


def _print(records: "list[RunResult]", failures: "list[Failure]", one: "Settings") -> None:
    from mos_recbole.report import comparison_table

    metrics = complete_runs(records, one.asked_metrics, one.values["data_path"])
    print(f"\n{comparison_table(records, metrics).text()}")
    print("\nFiles (record, outcomes, training log, checkpoints):")
    for record in records:
        print(f"  {record.folder}")
    for name, failure in failures:
        what = "error" if isinstance(failure, InputError) else "training failed"
        print(f"{what}: {name}: {failure}", file=sys.stderr)
