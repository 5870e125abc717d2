"""Full ranking at scale: target ranks and the best 100 items of many queries, time beside its floor, and memory.

    python benchmarks/speed/ranking_speed.py                       # 1,000,000 queries x 40,000 items, minutes on a CPU
    python benchmarks/speed/ranking_speed.py --queries 20000 --components 1 4

A query is a random state; a MoS head (K = 1: a softmax) scores all items for 4,096 queries after another, as in an
evaluation. The floor is 2 B K V d operations at the rate of a product of two square matrices of 2,048, measured before
and between the batches (8,192 on a GPU). Memory is what the process holds at most above the head and the item table,
with the results and the matrices by which the rate is measured. Beside ours:
log-probabilities of all items, a comparison and `topk`, on --reference-queries queries, whose ranks must agree with
ours except for targets whose score another item has up to rounding. Writes results/ranking_speed/, keyed by device.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import pandas as pd
import torch
from measure import device_name, matmul_rate, peak_growth, seconds, versions
from processes import in_own_process

from mos_recbole.evaluation import TargetRanks, rank_targets
from mos_recbole.heads import MoSHead, OutputHead, SoftmaxHead

BATCH = 4096
KEYS = ["device", "queries", "items", "components", "width", "top_k"]


def make_head(n_items: int, n_components: int, width: int, device: str) -> tuple[OutputHead, torch.Tensor]:
    """Returns a head and an item table."""
    torch.manual_seed(0)
    if n_components == 1:
        head: OutputHead = SoftmaxHead(n_items, width)
    else:
        head = MoSHead(n_items, width, n_components=n_components)
    return head.to(device).eval(), torch.randn(n_items, width).div_(width**0.5).to(device)


def batch_of(number: int, size: int, n_items: int, width: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns states and targets, the same for the same number."""
    generator = torch.Generator().manual_seed(number)
    state_Bd = torch.randn(size, width, generator=generator)
    return state_Bd.to(device), torch.randint(1, n_items, (size,), generator=generator).to(device)


@torch.no_grad()
def rank(n_queries: int, n_items: int, n_components: int, width: int, top_k: int, device: str) -> dict[str, float]:
    """Returns the seconds that ranking takes, the matmul rate in between, and the memory it adds."""
    head, weight = make_head(n_items, n_components, width, device)
    where, rates, total = torch.device(device), [matmul_rate(torch.device(device))], 0.0
    batches = [(number, min(BATCH, n_queries - number * BATCH)) for number in range(-(-n_queries // BATCH))]

    def all_batches() -> None:
        nonlocal total
        scorer, found = head.scorer(weight), None
        for number, size in batches:
            state, target = batch_of(number, size, n_items, width, device)
            parts: list[TargetRanks] = []

            def work(state=state, target=target, parts=parts) -> None:
                parts.append(rank_targets(scorer, head.queries(state), target, None, top_k))

            total += seconds(work, where)
            found = found or parts[0].room_for(n_queries)
            found.put(slice(number * BATCH, number * BATCH + size), parts[0])
            if number % max(1, len(batches) // 8) == 0:
                rates.append(matmul_rate(where, calls=3))

    memory = peak_growth(all_batches, where)
    rate = statistics.median(rates)
    floor = 2 * n_queries * n_components * n_items * width / rate
    return {"seconds": total, "floor_share": floor / total, "matmul_gflops": rate / 1e9, "memory_bytes": memory}


@torch.no_grad()
def reference(n_queries: int, n_items: int, n_components: int, width: int, top_k: int, device: str) -> dict[str, float]:
    """Returns the seconds of the plain way on a few queries, ours beside it, and how many ranks differ."""
    head, weight = make_head(n_items, n_components, width, device)
    where = torch.device(device)
    scorer, plain, ours, differ = head.scorer(weight), 0.0, 0.0, 0
    for number in range(-(-n_queries // 256)):
        state, target = batch_of(number, 256, n_items, width, device)
        better: list[torch.Tensor] = []

        def plainly(state=state, target=target, better=better) -> None:
            log_prob = head.log_prob(state, weight)
            better.append((log_prob[:, 1:] > log_prob.gather(1, target[:, None])).sum(dim=1))
            if top_k:
                log_prob[:, 1:].topk(top_k)

        def at_once(state=state, target=target, better=better) -> None:
            better.append(rank_targets(scorer, head.queries(state), target, None, top_k).better)

        plain += seconds(plainly, where)
        ours += seconds(at_once, where)
        differ += int((better[0].cpu() != better[1]).sum())
    return {"plain_over_ours": plain / ours, "ranks_that_differ": differ / (256 * -(-n_queries // 256))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--reference-queries", type=int, default=1024)
    parser.add_argument("--items", type=int, default=40_000)
    parser.add_argument("--components", type=int, nargs="+", default=[4])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--top-k", type=int, nargs="+", default=[100])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=Path("results/ranking_speed"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "ranking_speed.csv"
    table = pd.read_csv(file) if file.exists() else pd.DataFrame()
    for n_components in options.components:
        for top_k in options.top_k:
            shape = (options.items, n_components, options.width, top_k, options.device)
            row = {
                "device": device_name(torch.device(options.device)),
                "queries": options.queries,
                "items": options.items,
                "components": n_components,
                "width": options.width,
                "top_k": top_k,
                **in_own_process(rank, options.queries, *shape),
                **in_own_process(reference, options.reference_queries, *shape),
                "versions": versions(),
            }
            print(json.dumps(row), file=sys.stderr, flush=True)
            table = pd.concat([table, pd.DataFrame([row])]).drop_duplicates(KEYS, keep="last")
            table.to_csv(file, index=False, float_format="%.6g")
    print(table.drop(columns="versions").to_markdown(index=False, floatfmt=".3g"))


if __name__ == "__main__":
    main()
