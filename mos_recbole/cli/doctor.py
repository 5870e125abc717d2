"""Shows what is installed, what is missing, and the command that mends it.

It also shows devices, threads and the cache. The exit status is 2 if something is missing that everything needs.

examples:
  what to put into a report of a fault
    %(prog)s
"""

import argparse
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from mos_recbole import __version__
from mos_recbole.cli.door import INPUT
from mos_recbole.cli.parser import Parser


def add_options(parser: Parser) -> None:
    """This command has no options of its own."""


def call(options: argparse.Namespace) -> int:
    # Neither PyTorch nor RecBole may be loaded here: they may be what is missing.
    from mos_recbole.installation import install_commands, needed_packages

    packages = needed_packages()
    machine, torch_works = _machine()
    _print(
        [
            ("mos_recbole", f"{__version__}, {Path(__file__).parents[1]}"),
            ("Python", f"{platform.python_version()}, {platform.platform()}"),
            *machine,
            ("cache", _cache()),
        ]
    )
    print()
    _print(
        [
            (one.requirement.name, one.installed or "missing", str(one.requirement.specifier), one.extra or "")
            for one in packages
        ],
        ("package", "installed", "needed", "extra"),
    )
    print()
    optional = {
        one.extra: install_commands(other for other in packages if other.extra == one.extra and not other.fits)
        for one in packages
        if one.extra and not one.fits
    }
    if optional:
        print("Optional, each for what the extra is for:")
        _print([(f"  {extra}", *commands) for extra, commands in optional.items()])
        print()
    wrong = [one for one in packages if one.extra is None and not one.fits]
    if wrong:
        print(f"Missing, or of another version: {', '.join(one.requirement.name for one in wrong)}. To mend it:")
        print(*(f"  {command}" for command in install_commands(wrong)), sep="\n")
    elif not torch_works:
        print("PyTorch is installed but cannot be loaded, for the reason above.")
    else:
        print("Everything that is needed is installed.")
    return 0 if torch_works and not wrong else INPUT


def _machine() -> tuple[list[tuple[str, str]], bool]:
    """Returns what PyTorch finds on this machine, or why it cannot be loaded; and whether it can."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that it needs
        return [("PyTorch", f"cannot be loaded: {error}"), ("cores", f"{cores}")], False
    chosen = os.environ.get("OMP_NUM_THREADS")
    gpus = [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    facts = [
        ("PyTorch", f"{torch.__version__}, {cuda}"),
        ("devices", ", ".join(["cpu", *gpus])),
        ("threads", f"{torch.get_num_threads()} of {cores} cores, OMP_NUM_THREADS {chosen or 'is not set'}"),
    ]
    return facts, True


def _cache() -> str:
    """Returns where prepared data are, how much they are, and whether more can be written."""
    from mos_recbole.io import cache_folder

    folder = cache_folder()
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return f"{folder}, which cannot be written to; set MOS_RECBOLE_CACHE to a folder that can"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{folder}, {size / 1e6:,.0f} MB"


def _print(rows: Sequence[Iterable[str]], header: Sequence[str] = ()) -> None:
    """Prints rows with aligned columns."""
    texts = [tuple(row) for row in ([header] if header else []) + list(rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
