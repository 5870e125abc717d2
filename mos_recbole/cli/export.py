"""Writes a finished run's model for other programs, as ONNX or as vectors.

The ONNX model goes from sequences of item ids to the best items and their log-probabilities; it asks for: pip
install 'mos_recbole[onnx]'. The vectors are those of items and of users' components, as NumPy's .npz (docs/after-
training.md).

examples:
  the twenty best items
    %(prog)s GRU4RecMoS --format onnx --k 20 --output model.onnx
  vectors, in the run's folder
    %(prog)s results/runs/GRU4RecMoS-ml-100k-seed2020-84b3... --format npz
"""

import argparse
import logging

from mos_recbole.cli.one_run import add_run_options, find_one_run, load_one_run
from mos_recbole.cli.parser import Parser, path
from mos_recbole.errors import InputError

_log = logging.getLogger(__name__)

LOADS = "mos_recbole.experiment.export"
INTERRUPTED = "no file was written"
_OUTPUT = "default: model.onnx or vectors.npz in the run's folder"
_FILES = {"onnx": "model.onnx", "npz": "vectors.npz"}


def add_options(parser: Parser) -> None:
    parser.add_argument("--format", choices=tuple(_FILES), default=None, required=True, help="what to write")
    parser.add_argument("--k", type=int, default=None, metavar="N", help="onnx: items a list (default: 10)")
    parser.add_argument(
        "--output",
        type=path,
        default=None,
        metavar="FILE",
        help="default: model.onnx or vectors.npz in the run's folder",
    )
    add_run_options(parser)


def call(options: argparse.Namespace) -> int:
    from mos_recbole.experiment.export import export_onnx, export_vectors
    from mos_recbole.io import require_new

    if options.format != "onnx" and options.k is not None:
        raise InputError("--k is for --format onnx, whose model lists items; vectors are of all items")
    output = options.output or find_one_run(options).folder / _FILES[options.format]
    require_new(output, options.force)
    run = load_one_run(options)
    if options.format == "onnx":
        export_onnx(run, output, 10 if options.k is None else options.k)
    else:
        export_vectors(run, output)
    _log.info(f"{output}: {output.stat().st_size:,} bytes")
    return 0
