"""The study of Mixture-of-Softmaxes in GRU4Rec, done properly: prepare, sweep, slices and report in one command.

    python benchmarks/studies/article.py --dataset ml-25m --download
    python benchmarks/studies/article.py --dataset ml-latest-small --zip ml-latest-small.zip
    python benchmarks/studies/article.py --dataset ml-100k

Interrupted in whatever way, the same command goes on. Every step is a command of mos-recbole that is printed before it
is run. `--key=value` arguments go to all of them: --epochs=1, or another split. The protocol, what each data set adds
to it, and the two sweeps are in configs/study/. Results are in <output>/<dataset>: the sweeps `heads` (the article's
table), `ties-random` and `ties-reverse` (the order of ratings of equal time, compared by benchmarks/studies/ties.py),
and `report`, with the article's numbers beside ours.

On ML-25M one epoch has 18 million targets; use a GPU (--gpus-per-trial 0.5: two trials share one).
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from mos_recbole.cli import main as mos_recbole
from mos_recbole.io import atomic_write

sys.path.append(str(Path(__file__).parents[1] / "speed"))
from synthetic_log import write_log

STUDY = Path(__file__).parents[2] / "configs" / "study"
PUBLISHED = Path(__file__).parents[2] / "configs" / "references" / "biarnes-ml-25m.yaml"
DATASETS = ("ml-25m", "ml-latest-small", "ml-100k", "synthetic")
SYNTHETIC_ROWS = 100_000


def commands(options: argparse.Namespace, passed: list[str]) -> Iterator[list[str]]:
    """Yields the study's steps as arguments of mos-recbole."""
    own = STUDY / f"{options.dataset}.yaml"
    # RecBole carries ml-100k; any other data set is a folder.
    dataset = options.dataset if options.dataset == "ml-100k" else str(options.data_path / options.dataset)
    source = ["--zip", str(options.zip)] if options.zip else ["--download"] if options.download else []
    modified = ["--allow-modified"] if options.allow_modified else []
    yield ["prepare", dataset, *source, *modified, "--config", str(STUDY / "protocol.yaml"), str(own), *passed]

    settings = {f"--{key}": _as_argument(value) for key, value in yaml.safe_load(own.read_text()).items()}
    settings |= dict(argument.split("=", 1) for argument in passed)
    results = options.output / options.dataset
    resources = ["--cpus-per-trial", str(options.cpus_per_trial), "--gpus-per-trial", str(options.gpus_per_trial)]
    seeds = ["--seeds", *map(str, options.seeds)] if options.seeds else []

    def sweep(file: str, name: str, **more: str) -> list[str]:
        place = ["--name", name, "--dataset", dataset, "--output", str(results)]
        arguments = [f"{key}={value}" for key, value in (settings | more).items()]
        return ["sweep", str(STUDY / file), *place, *resources, *seeds, *arguments]

    yield sweep("article.yaml", "heads")
    ties = [f"ties-{order}" for order in ("random", "reverse")]
    for name in ties:
        yield sweep("ties.yaml", name, **{"--tie_order": name.removeprefix("ties-")})
    sweeps = [str(results / name) for name in ("heads", *ties)]
    yield ["report", *sweeps, "--reference", str(PUBLISHED), "--output", str(results / "report")]


def _as_argument(value: object) -> str:
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).splitlines()[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=DATASETS, default="ml-100k", help="(default: ml-100k, which is built in)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--zip", type=Path, metavar="FILE", help="take the data out of this archive")
    source.add_argument("--download", action="store_true", help="fetch the data from GroupLens")
    parser.add_argument("--allow-modified", action="store_true", help="take data that are not as published")
    parser.add_argument("--data-path", type=Path, default=Path("dataset"), metavar="FOLDER", help="(default: dataset)")
    parser.add_argument("--output", type=Path, default=Path("results/article"), metavar="FOLDER", help="for results")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="(default: five)")
    parser.add_argument("--cpus-per-trial", type=int, default=1, metavar="N")
    parser.add_argument("--gpus-per-trial", type=float, default=0.0, metavar="X")
    options, passed = parser.parse_known_args()
    if unknown := [argument for argument in passed if not argument.startswith("--") or "=" not in argument]:
        parser.error(f"argument {unknown[0]!r} not understood; settings are given as --key=value")
    if options.dataset == "synthetic":
        folder = options.data_path / "synthetic"
        if not (folder / "ratings.csv").exists():
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(folder / "ratings.csv") as temporary:
                write_log(temporary, SYNTHETIC_ROWS, "ratings")
    for command in commands(options, passed):
        print(f"\n$ {shlex.join(['mos-recbole', *command])}", flush=True)
        if status := mos_recbole(command):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
