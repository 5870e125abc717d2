"""What a device can do and what is made of it: loss, step, epoch, ranking and sweep, each beside its floor.

    python benchmarks/speed/gpu_speed.py    # the sizes of docs/performance.md's goals: for a GPU
    python benchmarks/speed/gpu_speed.py --size small    # the same at about a thousandth: minutes on two cores
    python benchmarks/speed/gpu_speed.py --parts loss step

- loss: `mixture_cross_entropy`, forward and backward, by every implementation that runs here; "eager" is autograd over
  the written-down mixture, "one softmax" is the cross-entropy of RecBole's GRU4Rec.
- step: one training step of GRU4RecMoS with everything but the making of the batch; "eager" has the eager loss;
  "RecBole's GRU4Rec" is its own class, on prefixes, with RecBole's way of a step. Batches hold as many targets.
- epoch: all of an epoch, batches included. Eager and RecBole's are measured for --seconds and scaled up.
- ranking: target ranks of random states against all items; "eager" is all log-probabilities and a comparison, on 4,096
  queries, scaled up.
- sweep: 16 steps of trials of GRU4RecMoS on ml-100k, one seed each, as one and in turn.
- profile: 50 steps of GRU4RecMoS with their batches on a CUDA device: the share of the time in which it is busy, and
  its longest kernels (profile.txt). Elsewhere left out.

A floor is the larger of operations over the rate of a product of two square matrices, and of bytes that must be moved
over the rate of a copy, both measured in the same call, in the same precision. Operations are those of the
products alone; bytes are the parameters, gradients and optimizer's state, each read or written as often as it must be.
Times are medians of --rounds turns. Data are a synthetic log (synthetic_log.py) of MovieLens-25M's shape. Writes
results/gpu_speed/gpu_speed.csv, keyed by device, precision and size.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import fused_speed
import pandas as pd
import ranking_speed
import torch
from loss_speed import memory as loss_memory
from loss_speed import step as loss_step
from measure import copy_rate, device_name, matmul_rate, seconds, versions
from processes import in_own_process
from synthetic_log import write_log

from mos_recbole.data import SequenceDataset
from mos_recbole.experiment import StepTimer, TimedLoader, load_settings
from mos_recbole.losses import need_triton
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.training import BenchmarkTrainer, make_train_loader
from mos_recbole.training.loaders import TrainLoader


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        queries: of the loss.
        items: V, the padding included; some of the small log's rarest items have no interaction.
        components, width: K and d.
        rows: of the log.
        batch: targets a training step.
        ranked: queries that are ranked.
        trials: of the sweep.
    """

    queries: int
    items: int
    components: int
    width: int
    rows: int
    batch: int
    ranked: int
    trials: int


SIZES = {
    "goal": Size(4096, 39_803, 4, 64, 20_700_000, 4096, 3_000_000, 16),
    "small": Size(1024, 4000, 4, 64, 60_000, 1024, 8192, 4),
}
KEYS = ["device", "dtype", "size", "part", "entry"]
# GRU4Rec's states before they are narrowed to d, RecBole's default.
HIDDEN = 128
# Reads of parameter, gradient and both moments, writes of all but the gradient, and the gradient's own writing.
ADAM_PASSES = 8


@dataclass(frozen=True)
class Rates:
    """What the device does, measured: operations a second in products, bytes a second in copies."""

    operations: float
    bytes: float

    def floor(self, operations: float, moved: float) -> float:
        """Returns the least seconds for so many operations and bytes."""
        return max(operations / self.operations, moved / self.bytes)


class Bench:
    """One call of this script: device, precision, size and rates, and the rows that it finds."""

    def __init__(self, options: argparse.Namespace, log: Path) -> None:
        self.device, self.dtype, self.size = torch.device(options.device), getattr(torch, options.dtype), options.size
        self.rounds, self.patience, self.log, self.output = options.rounds, options.seconds, log, options.output
        self.shape = SIZES[options.size]
        self.rates = Rates(matmul_rate(self.device, self.dtype), copy_rate(self.device))
        self.rows: list[dict[str, Any]] = []

    def note(self, part: str, entry: str, taken: float, floor: float, done: int, **facts: Any) -> None:
        """Takes in a figure: seconds, the floor's, and how many targets or queries were done in them."""
        row = {
            **{"device": device_name(self.device), "dtype": str(self.dtype).removeprefix("torch."), "size": self.size},
            **{"part": part, "entry": entry, "seconds": taken, "floor_seconds": floor, "over_floor": taken / floor},
            **{"per_second": done / taken, **facts},
            **{"operations_per_second": self.rates.operations, "copied_bytes_per_second": self.rates.bytes},
            **{"rounds": self.rounds, "versions": versions(), **asdict(self.shape)},
        }
        self.rows.append(row)
        print(f"{part}, {entry}: {taken:.4g} s, {taken / floor:.2f} floors", file=sys.stderr, flush=True)

    def apart(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns the function's value; computed on a CPU in a fresh process, whose memory can be told."""
        return in_own_process(function, *arguments) if self.device.type == "cpu" else function(*arguments)

    def in_turns(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        """Returns the median seconds of each call; the first ones, which warm up, are not counted."""
        for call in calls.values():
            call()
        taken: dict[str, list[float]] = {entry: [] for entry in calls}
        for _ in range(self.rounds):
            for entry, call in calls.items():
                taken[entry].append(seconds(call, self.device))
        return {entry: statistics.median(found) for entry, found in taken.items()}


def _triton_runs(device: torch.device) -> bool:
    try:
        need_triton(device)
    except ValueError:
        return False
    return True


def loss(bench: Bench) -> None:
    """Measures the loss."""
    shape, device, dtype = bench.shape, str(bench.device), bench.dtype
    sizes = (shape.queries, shape.items, shape.components, shape.width)
    entries = {"ours": "ours", "eager": "naive", "one softmax": "plain"}
    if _triton_runs(bench.device):
        entries["ours, Triton"] = "triton"
    calls = {entry: loss_step(name, device, dtype, *sizes) for entry, name in entries.items()}
    # Vectors and table are read, their gradients written.
    moved = 2 * dtype.itemsize * shape.width * (shape.items + shape.queries * shape.components)
    floor = bench.rates.floor(6 * shape.queries * shape.components * shape.items * shape.width, moved)
    for entry, taken in bench.in_turns(calls).items():
        held = bench.apart(loss_memory, entries[entry], device, dtype, *sizes)
        bench.note("loss", entry, taken, floor, shape.queries, memory_bytes=held)


def trained(bench: Bench, model: str, **overrides: Any) -> tuple[BenchmarkTrainer, TrainLoader]:
    """Returns the trainer of a model on the log, and its batches."""
    common = {"train_batch_size": bench.shape.batch, "enable_amp": bench.dtype != torch.float32}
    if model != "GRU4Rec":
        common |= {"mos_heads": bench.shape.components}
    common |= {"embedding_size": bench.shape.width, "hidden_size": HIDDEN}
    settings = load_settings(model, str(bench.log), overrides=common | overrides)
    config = settings.recbole_config(bench.device)
    data = SequenceDataset(config)
    split = data.split()
    net = settings.model_class(config, data.training_part(split)).to(bench.device)
    trainer = BenchmarkTrainer(config, net, bench.log, "speed", False, time.perf_counter())
    return trainer, make_train_loader(config, data, split)


def models(bench: Bench) -> dict[str, tuple[BenchmarkTrainer, TrainLoader]]:
    """Returns what is trained."""
    return {
        "ours": trained(bench, "GRU4RecMoS"),
        "eager": trained(bench, "GRU4RecMoS", loss_impl="reference"),
        "RecBole's GRU4Rec": trained(bench, "GRU4Rec"),
    }


def work_of(bench: Bench, net: EncoderHeadRecommender, n_targets: int, n_steps: int) -> float:
    """Returns the floor of so many steps of GRU4RecMoS on so many targets in all, in seconds."""
    shape, width = bench.shape, bench.shape.width
    gru = 3 * HIDDEN * (width + HIDDEN) + HIDDEN * width
    head = shape.components * (width * width + width)
    scores = shape.components * net.n_items * width
    # A product forward, two backward; a multiplication and an addition each.
    operations = 6 * n_targets * (gru + head + scores)
    n_parameters = sum(parameter.numel() for parameter in net.parameters())
    return bench.rates.floor(operations, n_steps * ADAM_PASSES * 4 * n_parameters)


def step(bench: Bench) -> None:
    """Measures a training step."""
    calls, done, entries = {}, {}, models(bench)
    for entry, (trainer, loader) in entries.items():
        batch, done[entry] = next(iter(loader.epoch(1)))
        trainer.model.train()
        calls[entry] = partial(trainer._step, batch, trainer._loss_function(1), trainer.optimizer)
    net = entries["ours"][0].model
    for entry, taken in bench.in_turns(calls).items():
        bench.note("step", entry, taken, work_of(bench, net, done[entry], 1), done[entry])


def epoch(bench: Bench) -> None:
    """Measures an epoch."""
    entries = models(bench)
    for entry, (trainer, loader) in entries.items():
        n_targets = loader.n_targets
        floor = work_of(bench, entries["ours"][0].model, n_targets, -(-n_targets // bench.shape.batch))
        if entry == "ours":
            taken = seconds(partial(trainer._train_epoch, loader, 1), bench.device)
        else:
            timer = StepTimer(bench.patience, bench.device)
            timed = TimedLoader(loader, timer)
            trainer._train_epoch(timed, 1)
            timer.start()
            taken = seconds(partial(trainer._train_epoch, timed, 1), bench.device) + timer.left.busy
        bench.note("epoch", entry, taken, floor, n_targets, measured_whole=entry == "ours")


def ranking(bench: Bench) -> None:
    """Measures full ranking; in float32, as evaluation is."""
    shape = bench.shape
    sizes = (shape.items, shape.components, shape.width, 0, str(bench.device))
    found = bench.apart(ranking_speed.rank, shape.ranked, *sizes)
    floor = found["floor_share"] * found["seconds"]
    bench.note("ranking", "ours", found["seconds"], floor, shape.ranked, memory_bytes=found["memory_bytes"])
    ratio = ranking_speed.reference(4096, *sizes)["plain_over_ours"]
    bench.note("ranking", "eager", ratio * found["seconds"], floor, shape.ranked, measured_whole=False)


def sweep(bench: Bench) -> None:
    """Measures trials of GRU4RecMoS on ml-100k, as one and in turn, in float32."""
    n_steps, n_trials, batch = 16, bench.shape.trials, bench.shape.batch
    case = ("GRU4RecMoS", batch, n_trials, "different", n_steps, bench.device)
    taken: dict[str, list[float]] = {"ours, fused": [], "ours, in turn": []}
    for _ in range(bench.rounds):
        for found, function in zip(taken.values(), (fused_speed.as_one, fused_speed.in_turn), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                trials = fused_speed.make_trials(*case, Path(folder))
                found.append(seconds(partial(function, trials), bench.device))
    done = n_trials * n_steps * batch
    floor = work_of(bench, trials[0].trainer.model, done, n_trials * n_steps)
    for entry, found in taken.items():
        bench.note("sweep", entry, statistics.median(found), floor, done)


def profile(bench: Bench) -> None:
    """Measures how long a CUDA device is busy while the model is trained."""
    if bench.device.type != "cuda":
        return
    trainer, loader = trained(bench, "GRU4RecMoS")
    trainer.model.train()
    loss_function = trainer._loss_function(1)
    batches = loader.epoch(1)

    def steps(number: int) -> int:
        done = 0
        for batch, n_targets in islice(batches, number):
            trainer._step(batch, loss_function, trainer.optimizer)
            done += n_targets
        return done

    steps(10)
    with torch.profiler.profile() as found:
        done: list[int] = []
        taken = seconds(lambda: done.append(steps(50)), bench.device)
    kernels = [event for event in found.events() if event.device_type is torch.autograd.DeviceType.CUDA]
    busy = sum(event.time_range.elapsed_us() for event in kernels) / 1e6
    floor = work_of(bench, trainer.model, done[0], 50)
    bench.note("profile", "ours", taken, floor, done[0], busy_share=busy / taken, kernels_a_step=len(kernels) / 50)
    table = found.key_averages().table(sort_by="self_device_time_total", row_limit=30)
    (bench.output / "profile.txt").write_text(table, encoding="utf-8")


PARTS = {"loss": loss, "step": step, "epoch": epoch, "ranking": ranking, "sweep": sweep, "profile": profile}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--size", choices=list(SIZES), default="goal")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0, help="of training where an epoch is scaled up")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=Path("results/gpu_speed"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "gpu_speed.csv"
    table = pd.read_csv(file) if file.exists() else pd.DataFrame()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "synthetic"
        log.mkdir()
        if {"step", "epoch", "profile"} & set(options.parts):
            size = SIZES[options.size]
            write_log(log / "synthetic.inter", size.rows, "inter", n_items=size.items - 1)
        bench = Bench(options, log)
        for part in options.parts:
            PARTS[part](bench)
            table = pd.concat([table, pd.DataFrame(bench.rows)]).drop_duplicates(KEYS, keep="last")
            table.to_csv(file, index=False, float_format="%.6g")
    columns = [*KEYS[1:], "seconds", "floor_seconds", "over_floor", "per_second", "memory_bytes"]
    here = pd.DataFrame(bench.rows).reindex(columns=columns)
    print(here.to_markdown(index=False, floatfmt=".3g", missingval=""))


if __name__ == "__main__":
    main()
