"""Time and memory of the mixture cross-entropy, forward and backward, beside what else PyTorch offers and the floor.

    python benchmarks/speed/loss_speed.py                                          # the whole grid, about 20 minutes
    python benchmarks/speed/loss_speed.py --items 1700 40000 --components 1 4 --widths 64

- ours: `mixture_cross_entropy`
- bf16: the same with `impl="chunked_bf16"`, for float32 on CPUs with AMX
- naive: autograd through B x K x V log-probabilities, `impl="reference"`
- plain: `cross_entropy(h @ W.T)`, one softmax
- linear: `torch.nn.functional.linear_cross_entropy` in chunks, one softmax, where PyTorch has it

in turns; medians. The floor is 6 B K V d operations at the rate of a product of two square matrices of 2,048 (8,192 on
a GPU), measured in every turn. Memory is what one call adds to the process, or to the GPU. Where the naive mixture
would need more than --naive-gib it is left out. Writes results/loss_speed/, keyed by device and type.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import torch
from measure import device_name, matmul_rate, peak_growth, seconds, versions
from processes import in_own_process
from torch.nn import functional

from mos_recbole.losses import MixtureImplementation, mixture_cross_entropy
from mos_recbole.report.figures import STYLE, label_log_axis

SINGLE = ("plain", "linear")
PLACE = ["device", "dtype", "queries", "items", "width"]


def step(
    implementation: str, device: str, dtype: torch.dtype, n_queries: int, n_items: int, n_components: int, width: int
) -> Callable[[], None]:
    """Returns a function that computes the loss and the gradients of everything once."""
    generator = torch.Generator(device).manual_seed(0)

    def parameter(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device).mul_(width**-0.5).to(dtype).requires_grad_()

    target = torch.randint(n_items, (n_queries,), generator=generator, device=device)
    weight = parameter(n_items, width)
    if implementation in SINGLE:
        state = parameter(n_queries, width)
        if implementation == "plain":
            return lambda: functional.cross_entropy((state @ weight.T).float(), target).backward()
        chunks = torch.nn.LinearCrossEntropyOptions()
        return lambda: functional.linear_cross_entropy(state, weight, target, options=chunks).backward()
    components = parameter(n_queries, n_components, width)
    log_prior = parameter(n_queries, n_components).detach().float().log_softmax(-1).requires_grad_()
    impls: dict[str, MixtureImplementation] = {"naive": "reference", "triton": "triton", "bf16": "chunked_bf16"}
    impl = impls.get(implementation, "auto")
    return lambda: mixture_cross_entropy(components, log_prior, weight, target, impl=impl).backward()


def memory(implementation: str, device: str, dtype: torch.dtype, *shape: int) -> int:
    """Returns the bytes that one call adds."""
    # PyTorch's own buffers, and threads, come with the first call.
    step(implementation, device, dtype, 32, 128, 1, 64)()
    return peak_growth(step(implementation, device, dtype, *shape), torch.device(device))


def compare(
    device: str, dtype: torch.dtype, n_queries: int, n_items: int, width: int, components: list[int], options
) -> list[dict]:
    """Returns a row for every implementation and K at one size of catalogue and width."""
    steps: dict[tuple[str, int], Callable[[], None]] = {}
    has_units = device == "cpu" and dtype == torch.float32 and torch.cpu._is_amx_tile_supported()
    for name in ("ours", *(["bf16"] if has_units else []), "naive", *SINGLE):
        for n_components in [1] if name in SINGLE else components:
            naive_gib = 5 * 4 * n_queries * n_components * n_items / 2**30
            if name == "linear" and not hasattr(torch.nn, "LinearCrossEntropyOptions"):
                continue
            if name == "naive" and naive_gib > options.naive_gib:
                continue
            steps[name, n_components] = step(name, device, dtype, n_queries, n_items, n_components, width)
    where = torch.device(device)
    times: dict[tuple[str, int], list[float]] = {key: [] for key in steps}
    rates = []
    for run in steps.values():
        run()
    for _ in range(options.rounds):
        rates.append(matmul_rate(where, dtype, calls=3))
        for key, run in steps.items():
            times[key].append(seconds(run, where))
    rate, rows = statistics.median(rates), []
    for (name, n_components), taken in times.items():
        floor = 6 * n_queries * n_components * n_items * width / rate
        measure = partial(memory, name, device, dtype, n_queries, n_items, n_components, width)
        row = {
            "device": device_name(where),
            "dtype": str(dtype).removeprefix("torch."),
            "queries": n_queries,
            "items": n_items,
            "components": n_components,
            "width": width,
            "implementation": name,
            "seconds": statistics.median(taken),
            "floor_share": floor / statistics.median(taken),
            "matmul_gflops": rate / 1e9,
            "memory_bytes": measure() if device != "cpu" else in_own_process(measure),
            "rounds": options.rounds,
            "versions": versions(),
        }
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def with_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Returns ours: time over that of the plain softmax and of bf16, the naive mixture's time and memory over ours."""
    ours = table[table.implementation == "ours"].drop(columns="implementation")
    plain = table[table.implementation == "plain"][[*PLACE, "seconds", "memory_bytes"]]
    naive = table[table.implementation == "naive"][[*PLACE, "components", "seconds", "memory_bytes"]]
    joined = ours.merge(plain, on=PLACE, suffixes=("", "_plain"), how="left")
    joined = joined.merge(naive, on=[*PLACE, "components"], suffixes=("", "_naive"), how="left")
    bf16 = table[table.implementation == "bf16"][[*PLACE, "components", "seconds"]]
    joined = joined.merge(bf16, on=[*PLACE, "components"], suffixes=("", "_bf16"), how="left")
    return joined.assign(
        over_plain=joined.seconds / joined.seconds_plain,
        naive_over=joined.seconds_naive / joined.seconds,
        over_bf16=joined.seconds / joined.seconds_bf16,
        naive_memory_over=joined.memory_bytes_naive / joined.memory_bytes,
    )


@matplotlib.rc_context(STYLE)
def plot(table: pd.DataFrame, path: Path) -> None:
    """Draws time over the plain softmax's, and memory, against K, one line per catalogue, at the middle width."""
    ratios = with_ratios(table)
    widths = sorted(ratios.width.unique())
    ratios = ratios[ratios.width == widths[len(widths) // 2]]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for ((n_items, queries), group), marker in zip(ratios.groupby(["items", "queries"]), "os^Dv", strict=False):
        group = group.sort_values("components")
        (line,) = left.plot(
            group.components, group.over_plain, marker=marker, label=f"V = {n_items:,}, B = {queries:,}"
        )
        right.plot(group.components, group.memory_bytes / 2**20, marker=marker, color=line.get_color())
        right.plot(
            group.components, group.memory_bytes_naive / 2**20, marker=marker, linestyle="--", color=line.get_color()
        )
    left.plot([1, 16], [1, 16], color="grey", linewidth=0.8, label="K softmaxes")
    left.set(xlabel="components K", ylabel="time over one plain softmax", xscale="log", yscale="log")
    right.set(xlabel="components K", ylabel="MiB added by a call (dashed: naive)", xscale="log", yscale="log")
    for axes in (left, right):
        axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        axes.minorticks_off()
        label_log_axis(axes.yaxis)
    left.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--components", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--items", type=int, nargs="+", default=[1700, 40_000, 400_000])
    parser.add_argument("--queries", type=int, default=1600, help="a tenth of it for more than 100,000 items")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--naive-gib", type=float, default=12.0)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=Path("results/loss_speed"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "loss_speed.csv"
    table = pd.read_csv(file) if file.exists() else pd.DataFrame()
    for n_items in options.items:
        n_queries = options.queries if n_items <= 100_000 else options.queries // 10
        for width in options.widths:
            rows = compare(
                options.device, getattr(torch, options.dtype), n_queries, n_items, width, options.components, options
            )
            new = pd.DataFrame(rows)
            # Ratios are taken within one turn only: what an earlier call measured in this place goes as a whole.
            if len(table):
                table = table[~table.set_index(PLACE).index.isin(new.set_index(PLACE).index)]
            table = pd.concat([table, new]).sort_values([*PLACE, "implementation", "components"])
            table.to_csv(file, index=False, float_format="%.6g")
    here = table[(table.device == device_name(torch.device(options.device))) & (table.dtype == options.dtype)]
    plot(here, options.output / "loss_speed.png")
    columns = [
        "items",
        "width",
        "components",
        "over_plain",
        "naive_over",
        "over_bf16",
        "naive_memory_over",
        "floor_share",
    ]
    print(with_ratios(here)[columns].to_markdown(index=False, floatfmt=".2f"))


if __name__ == "__main__":
    main()
