"""Which of RecBole's models run here: each trained for an epoch on ml-100k, and docs/models.md made of what came out.

    python benchmarks/studies/model_matrix.py                 # runs what has not been run yet, then writes the page
    python benchmarks/studies/model_matrix.py --models NARM KSR --epochs 3 --length 50 --output /tmp/three
    python benchmarks/studies/model_matrix.py --write-only    # the page again, from the records

Every model has RecBole's default settings but for the length of the sequences (--length) and what SMALLER names. Runs
that are finished are not repeated, by later code neither: interrupted in whatever way, the same command goes on. A
model that fails is noted with its message and does not keep the others from running. Time is the processor's, which can
be quoted from a machine that others use too; set OMP_NUM_THREADS=1. Records go to <output>/runs, times and failures to
<output>/times.csv; checkpoints and outcomes are deleted once a run is finished.
"""

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from tabulate import tabulate

from mos_recbole import compat
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings, run_experiment
from mos_recbole.io import atomic_write
from mos_recbole.models import ENCODERS, HEADS, own_model_names, resolve_model
from mos_recbole.results import BEST_CHECKPOINT, LAST_CHECKPOINT, OUTCOMES_FILE, RunResult, find_records
from mos_recbole.training import EpochReport

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
REFERENCE = "GRU4RecSoftmax"
KINDS = {"sequential_recommender": "sequential", "general_recommender": "general"}
REFUSED = {
    "context_aware_recommender": (
        "context-aware",
        "predicts a click from columns of the very interaction; nothing to rank all items by",
    ),
    "knowledge_aware_recommender": ("knowledge-aware", "needs a knowledge graph (`.kg` and `.link` files)"),
}

# Of the encoders with heads, these stand for all in the table of RecBole's models.
OWN = ("GRU4RecSoftmax", "GRU4RecMoS", "SASRecSoftmax", "SASRecMoS")

# Settings other than RecBole's defaults: where an epoch or a ranking takes long on one core, where the default does not
# fit ml-100k, and for stages of RecBole's that count their epochs apart.
_SHORT = (
    *("NARM", "GRU4RecKG", "GRU4RecF", "KSR", "SINE", "SASRec", "SASRecF", "SASRecCPR", "GRU4RecCPR", "LightSANs"),
    *("NextItNet", "FDSA", "RepeatNet", "FEARec", "GCSAN", "SRGNN"),
)
_PAIRS = ("DIN", "DIEN")
SMALLER: dict[str, dict[str, object]] = {
    **{model: {"MAX_ITEM_LIST_LENGTH": 5} for model in _SHORT},
    **{model: {"MAX_ITEM_LIST_LENGTH": 5, "mlp_hidden_size": [32, 16]} for model in _PAIRS},
    "ConvNCF": {"cnn_channels": [1, 8, 8, 8, 8]},
    "NAIS": {"embedding_size": 16, "weight_size": 16},
    "NCL": {"num_clusters": 100},
    "S3Rec": {"MAX_ITEM_LIST_LENGTH": 5, "pretrain_epochs": 1},
    "RaCT": {"pretrain_epochs": 1},
}
# They take long; what is fast comes first.
SLOW = (
    "RepeatNet",
    "SRGNN",
    "GCSAN",
    "FEARec",
    "DIN",
    "DIEN",
    "SLIMElastic",
    "DGCF",
    "NNCF",
    "FISM",
    "ConvNCF",
    "NAIS",
)
NEED_VECTORS = {"GRU4RecKG": ("ent",), "KSR": ("ent", "rel")}
_VECTOR_LENGTH, _RELATIONS = 64, 8

ENCODERS_TEXT = """\
## Encoders and heads

A model's name is that of an encoder and of a head ([heads.md](heads.md)): {heads}.
`pytest -m "" tests/models/test_encoders.py` trains every combination for a few steps, and compares the encoders'
states with RecBole's scores on the same weights. All but `GRU4Rec` and `SASRec` are made of RecBole's classes, of
which the states alone are used: their penalties and further losses are left out, and so are their own ways to the
scores (`CORE`'s cosines are the head `Cosine`; its states have length 1 with any head, so that a softmax's logits are
at most the items' vectors' lengths; `HGN`'s second table is `tie_weights: False`, `BERT4Rec`'s output bias is
`item_bias: True`). `BERT4Rec` is trained on a mask after the last item, not on masks at random places. `NextItNet`'s
state is that at the last item; RecBole's class takes the last column, be it padding. `NARM` and `CORE` attend to
earlier items only, so their layers give the states of all positions at once. `LightSANs` sums up the whole sequence
in its interests, `GCSAN` and `SRGNN` make one graph of it, `FEARec` transforms it to frequencies, `Caser` and `STAMP`
look at fixed places from its end: a state would know later items, or be computed anew for each position.
"""

TEMPLATE = """\
# Models

What `--model` takes. This page is written by `benchmarks/studies/model_matrix.py`, its table from the records in
[results/models](../results/models).

- **Ours**: an encoder with a head, such as {own}
  ([plugins.md](plugins.md) tells how to add your own).
- **RecBole's own classes**, sequential and general, by their names. They train on RecBole's samples with RecBole's
  loss, the sequential ones on one prefix per target, the general ones on the interactions of training. All are
  evaluated on the same queries, with the same candidates and the same tie rule.

{encoders}

{runs}

## What RecBole's models get here

- **Loops of their own.** `S3Rec` and `RaCT` are trained in stages. RecBole starts a program for each; here one run goes
  through all of them: every stage but the last takes `pretrain_epochs`, the last takes `epochs` and is validated. The
  epochs are numbered through. `RecVAE` alternates between encoder and decoder (`n_enc_epochs`, `n_dec_epochs`). `NCL`
  clusters users and items before every `m_step`th epoch (by SciPy's k-means; RecBole wants faiss for it). All of these
  resume exactly, as other runs do.
- **Batch transforms.** The masks of `BERT4Rec` and the right-aligned sequences of `SHAN` are made by RecBole's own
  `recbole.data.transform`, drawn by the seed and the epoch. A batch in which no item was masked is passed over, since
  RecBole's loss of it is 0 / 0.
- **Features of items.** `FDSA`, `GRU4RecF` and `SASRecF` (`selected_features`) and `S3Rec` (`item_attribute`) need
  columns of `<name>.item`; `DIN` and `DIEN` take those that are loaded. RecBole loads some for ml-100k; for other data
  `--load_col='{{item: [item_id, class]}}'` does. Features change a run, but not what it may be compared with: items
  that only the features name are left out, and the queries are the same.
- **Vectors.** `GRU4RecKG` needs `<name>.ent`: `ent_id:token`, an item's name, and `ent_emb:float_seq`, `embedding_size`
  numbers. `KSR` needs the same with `kg_embedding_size` numbers, and `<name>.rel`: `rel_id:token`, `rel_emb:float_seq`.
  An item without a vector has zeros. A knowledge graph is not read.
- **Labels.** `DIN` and `DIEN` learn from targets and as many sampled items, and `DIEN` from another item drawn for
  every place of the history. They score pairs: ranking costs a pass through the model for every item.
- **Samples of the same target**, which `FEARec` looks up, are gathered when it asks. Only its contrastive losses use
  them (`contrast: us_x` or another), which RecBole's defaults leave out.
- **Seen items** were candidates here (`filter_seen: False`); by default they are where users have items twice. Some
  general models put what a user has seen first, where a test item seldom is: `EASE` and `NCEPLRec` are low in the
  table for that.
- `Pop` counts every interaction (RecBole's counts an item once per batch). `Random` draws one order of the items for
  each batch of queries.

## Refused

{refused}

RecBole's gradient-boosting models (`XGBoost`, `LightGBM`) need packages that RecBole does not install.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", help="default: all that are not refused")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--length", type=int, default=10, help="items of the context that sequential models see")
    parser.add_argument("--output", type=Path, default=Path("results/models"))
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--write-only", action="store_true", help="train nothing")
    options = parser.parse_args()
    if not options.write_only:
        with TemporaryDirectory() as folder:
            for model in options.models or models_to_run():
                run(model, options.epochs, options.length, options.output, Path(folder))
    with atomic_write(options.page) as path:
        path.write_text(page(find_records(options.output), read_times(options.output)), encoding="utf-8")


def models_to_run() -> list[str]:
    """Returns this project's models and RecBole's own that are not refused, slow ones last."""
    names = [*OWN, *(name for kind in KINDS for name in compat.recbole_model_names([kind]))]
    return sorted(names, key=lambda name: SLOW.index(name) if name in SLOW else -1)


def run(model: str, epochs: int, length: int, output: Path, folder: Path) -> None:
    """Trains a model unless it was, and notes its time or why it failed."""
    training = {"train_batch_size": 2048, "lr_schedule": "constant", "warmup": 0.0}  # RecBole's, for ours too
    settings = {
        "epochs": epochs,
        "MAX_ITEM_LIST_LENGTH": length,
        "filter_seen": False,
        **training,
        **SMALLER.get(model, {}),
    }
    if any(record.model == model and settings.items() <= record.settings.items() for record in find_records(output)):
        return
    print(f"{model}: {settings}", file=sys.stderr, flush=True)
    try:
        noted = timed_run(model, data_for(model, folder), settings, output)
    except (InputError, RuntimeError) as error:
        noted = {"failure": str(error)}
    if noted is not None:
        row = pd.DataFrame([{"model": model, "epochs": epochs, **noted}])
        times = read_times(output)
        times = pd.concat([times[times["model"] != model], row], ignore_index=True)
        with atomic_write(output / "times.csv") as path:
            times.to_csv(path, index=False, float_format="%.4g")


def timed_run(model: str, dataset: str, settings: dict[str, object], output: Path) -> dict[str, object] | None:
    """Returns the run's id and the processor time for building and training; None where it was done before."""
    started = time.perf_counter(), time.process_time()
    spent = {"wall": 0.0, "cpu": 0.0, "evaluation": 0.0}

    def begin() -> None:
        nonlocal started
        started = time.perf_counter(), time.process_time()

    def note(report: EpochReport) -> None:
        spent["wall"], spent["cpu"] = time.perf_counter() - started[0], time.process_time() - started[1]
        spent["evaluation"] += report.eval_seconds

    class FirstSentence(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            begin()

    runs_log, first_sentence = logging.getLogger("mos_recbole.experiment"), FirstSentence()
    runs_log.addHandler(first_sentence)
    runs_log.setLevel(logging.INFO)
    try:
        record = run_experiment(
            load_settings(model, dataset, overrides=settings), output=output, device="cpu", resume=True, on_epoch=note
        )
    finally:
        runs_log.removeHandler(first_sentence)
    for name in (BEST_CHECKPOINT, LAST_CHECKPOINT, OUTCOMES_FILE):
        (record.folder / name).unlink(missing_ok=True)
    if not spent["wall"] or record.resumed:
        return None
    # Validation's part of the processor time is as large as of the time on the clock.
    return {"run": record.run_id, "cpu_seconds": spent["cpu"] * (1 - spent["evaluation"] / spent["wall"])}


def data_for(model: str, folder: Path) -> str:
    """Returns ml-100k; for a model that needs vectors, a copy of it with random ones."""
    if model not in NEED_VECTORS:
        return "ml-100k"
    config = load_settings("Pop", "ml-100k").recbole_config(torch.device("cpu"))
    copy = folder / "ml-100k"
    copy.mkdir(exist_ok=True)
    shutil.copy(Path(config["data_path"]) / "ml-100k.inter", copy)
    items = pd.read_csv(copy / "ml-100k.inter", sep="\t", dtype=str)["item_id:token"].unique()
    generator = np.random.default_rng(1)
    for suffix, names in (("ent", items), ("rel", [f"r{number}" for number in range(_RELATIONS)])):
        vectors = [" ".join(f"{value:.4f}" for value in generator.normal(size=_VECTOR_LENGTH)) for _ in names]
        table = pd.DataFrame({f"{suffix}_id:token": names, f"{suffix}_emb:float_seq": vectors})
        table.to_csv(copy / f"ml-100k.{suffix}", sep="\t", index=False)
    return str(copy)


def read_times(output: Path) -> pd.DataFrame:
    """Returns a row per model: run, epochs and cpu_seconds, or failure."""
    columns = ["model", "epochs", "run", "cpu_seconds", "failure"]
    found = pd.read_csv(output / "times.csv") if (output / "times.csv").exists() else pd.DataFrame()
    return found.reindex(columns=columns)


def page(records: Sequence[RunResult], times: pd.DataFrame) -> str:
    """Returns docs/models.md."""
    return TEMPLATE.format(
        own=", ".join(f"`{name}`" for name in OWN),
        encoders=encoders_and_heads(),
        runs=what_runs(records, times),
        refused=tabulate(
            [
                (label, ", ".join(f"`{name}`" for name in compat.recbole_model_names([kind])), reason)
                for kind, (label, reason) in REFUSED.items()
            ],
            headers=["kind", "models", "why"],
            tablefmt="github",
        ),
    )


def what_runs(records: Sequence[RunResult], times: pd.DataFrame) -> str:
    """Returns the table of RecBole's models, with ours beside them."""
    latest = {record.model: record for record in sorted(records, key=lambda record: record.finished)}
    seconds = times.dropna(subset="cpu_seconds").set_index("run")["cpu_seconds"]
    failures = times.dropna(subset="failure").set_index("model")["failure"]
    reference = per_epoch(latest.get(REFERENCE), seconds)
    rows: list[tuple[object, ...]] = []
    for model in table_models():
        kind, record = kind_of(model), latest.get(model)
        if record is None:
            rows.append((f"`{model}`", kind, "", "", "", "", "", failures.get(model, "not run yet")))
            continue
        own = per_epoch(record, seconds)
        ratio = "" if own is None or not reference else f"{own / reference:.3g}"
        metrics = (f"{record.test[name].value:.4f}".lstrip("0") for name in ("NDCG@10", "Recall@10"))
        changed = ", ".join(f"`{key}: {value}`" for key, value in SMALLER.get(model, {}).items())
        note = f"random vectors, {changed}" if model in NEED_VECTORS else changed
        rows.append((f"`{model}`", kind, f"{record.parameters:,}", record.epochs, ratio, *metrics, note))
    first = latest.get(REFERENCE)
    described = "" if first is None else describe(first)
    table = tabulate(
        rows,
        headers=["model", "kind", "parameters", "epochs", "time", "NDCG@10", "Recall@10", "notes"],
        tablefmt="github",
        colalign=("left", "left", "right", "right", "right", "right", "right", "left"),
        disable_numparse=True,
    )
    return f"## What runs\n\n{described}\n\n{table}"


def describe(record: RunResult) -> str:
    """Returns what the table's runs have in common."""
    data, length = record.data, record.settings["MAX_ITEM_LIST_LENGTH"]
    return "\n".join(
        [
            f"On {record.dataset} ({data['users']:,} users, {data['items']:,} items), split "
            f"{record.protocol['split']['name']}, {data['test_targets']:,} test queries, seed {record.seed}; RecBole's",
            f"defaults but for what is named, and the last {length} items as context. After so few epochs the metrics",
            "(of the test set) tell that a model runs and learns, not how good it is. Time is the processor's, on one",
            f"core, for building the model and training, per epoch; its unit is an epoch of `{REFERENCE}`, which",
            "trains on whole windows and not on prefixes. Models that are only counted or solved for need but one",
            "epoch.",
        ]
    )


def per_epoch(record: RunResult | None, seconds: pd.Series) -> float | None:
    """Returns the processor time of a run over its epochs; None where it was not noted."""
    if record is None or record.run_id not in seconds.index:
        return None
    return float(seconds[record.run_id]) / record.epochs


def table_models() -> list[str]:
    """Returns the models of the table in its order."""
    return [*OWN, *(name for kind in KINDS for name in compat.recbole_model_names([kind]))]


def kind_of(model: str) -> str:
    if model in OWN:
        return "ours"
    return next(label for kind, label in KINDS.items() if f".{kind}." in resolve_model(model).__module__)


def encoders_and_heads() -> str:
    """Returns the table of encoders with the heads that they go with."""
    known = set(own_model_names())
    labels = [head.label for head in HEADS.values()]
    rows = []
    for name, encoder in ENCODERS.items():
        missing = [label for label in labels if f"{name}{label}" not in known]
        rows.append(
            (
                f"`{name}`",
                "whole windows, or prefixes" if encoder.causal else "prefixes",
                f"`{encoder.width}`",
                "all" if not missing else "all but " + ", ".join(missing),
                ", ".join(f"`{key}`" for key in encoder.unread if key != "transform"),
            )
        )
    table = tabulate(
        rows, headers=["encoder", "trained on", "d", "heads", "RecBole's settings not read"], tablefmt="github"
    )
    return f"{ENCODERS_TEXT.format(heads=', '.join(f'`{label}`' for label in labels))}\n{table}"


if __name__ == "__main__":
    main()
