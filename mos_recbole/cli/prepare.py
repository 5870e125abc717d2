"""Checks a data set, prepares it for later runs, and prints how much is in it.

MovieLens can be downloaded or taken from an archive first: ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest-small,
ml-latest. These data may be used for research and may not be redistributed. By downloading them you agree to
GroupLens's terms, in the README that comes with each.

examples:
  download the article's data from GroupLens (250 MB) to dataset/ml-25m
    %(prog)s ml-25m --download
  take them from an archive on this machine
    %(prog)s ml-25m --zip ~/Downloads/ml-25m.zip
  prepare them for runs with these settings
    %(prog)s ml-25m --config my.yaml '--val_interval={rating: "[2.0,inf)"}'
  check your own data, and see how much is in them
    %(prog)s dataset/beauty
    %(prog)s log.csv --columns user=customer,item=product,time=bought
"""

import argparse
import logging
import shlex
from pathlib import Path

from mos_recbole.cli.parser import Parser, path
from mos_recbole.errors import InputError

_log = logging.getLogger(__name__)

LOADS = "mos_recbole.experiment"
INTERRUPTED = "no partial data are left, and the same command continues a download"


def add_options(parser: Parser) -> None:
    parser.add_argument("dataset", metavar="NAME", help="a release of MovieLens; or a data set: name, folder or file")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--zip", type=path, metavar="FILE", help="unpack this archive")
    source.add_argument("--download", action="store_true", help="download the archive from GroupLens")
    parser.add_argument("--data-path", metavar="FOLDER", help="parent of the data set's folder (default: dataset)")
    parser.add_argument("--allow-modified", action="store_true", help="accept data that differ from the published ones")
    parser.add_shared("--config", "--skip-bad-lines", "--key=value")


def call(options: argparse.Namespace) -> int:
    import torch

    from mos_recbole.data import SequenceDataset
    from mos_recbole.data.cache import entry_of
    from mos_recbole.data.movielens import obtain
    from mos_recbole.settings import given_settings, load_data_settings

    if options.data_path is not None and "/" in options.dataset:
        raise InputError(f"--data-path {options.data_path}: {options.dataset} is a folder already; expected a name")
    place = [] if options.data_path is None else [f"--data_path={options.data_path}"]
    settings = load_data_settings(options.dataset, options.config, [*options.settings, *place])
    for warning in settings.warnings:
        _log.warning(warning)
    config = settings.recbole_config(torch.device("cpu"))
    folder = Path(config["data_path"])
    if settings.values["split"] == "files":
        names = [f"{settings.dataset}.{part}.inter" for part in settings.values["benchmark_filename"]]
        where = f"{folder}: {', '.join(names)}"
    else:
        file = obtain(folder, archive=options.zip, download=options.download, allow_modified=options.allow_modified)
        where = f"{file.path}" + (f" ({file.check})" if file.check else "")
    data = SequenceDataset(config)
    print(f"{settings.dataset}: {data.summary(data.split()).describe()}")
    print(f"file:          {where}")
    entry = entry_of(data.sequences.items)
    print(f"prepared data: {entry or 'none; with these settings every run prepares them through RecBole'}")
    again = [*(["--config", *map(str, options.config)] if options.config else []), *options.settings]
    dataset = options.dataset if options.data_path is None else str(folder)
    model = [] if given_settings(options.config, options.settings).get("model") else ["--model", "GRU4RecMoS"]
    print(f"next:          {shlex.join(['mos-recbole', 'run', *model, '--dataset', dataset, *again])}")
    return 0
