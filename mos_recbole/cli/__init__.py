"""The command line: parses, calls, prints.

A command is a file. Its docstring is the help text, of which the first line is in the list of commands. `add_options`
declares its options, and `call` does the work and returns the exit status. `LOADS` names what takes seconds to import.
`parser.py` tells options from settings.
"""

import argparse
import atexit
import gc
import io
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from mos_recbole import __version__
from mos_recbole.cli import (
    ablate_rank,
    compare,
    doctor,
    export,
    ls,
    prepare,
    recommend,
    report,
    rm,
    run,
    score,
    slice,
    spectrum,
    sweep,
    synth,
    table,
)
from mos_recbole.cli.door import leave_by, settle_error_stream
from mos_recbole.cli.output import environment_fault, is_main, log_on_stderr, several_processes, started_here
from mos_recbole.cli.parser import Parser
from mos_recbole.cli.processes import run_in_processes
from mos_recbole.progress import ProgressBar

__all__ = ["main", "make_parser", "run_main", "sweep_main"]

_COMMANDS = (
    *(run, sweep, prepare, synth, ls, rm, table, compare, slice, report),
    *(spectrum, ablate_rank, score, recommend, export, doctor),
)

_TEXT = """Measures what the output layer does to sequential recommenders.

examples:
  begin here: what is installed, and what is missing
    %(prog)s doctor
  two models with three seeds each, on a data set that comes with RecBole: minutes on two cores
    %(prog)s run --model GRU4RecSoftmax GRU4RecMoS --seeds 1 2 3 --embedding_size=32 --epochs=5
  their difference, with its interval and its p value
    %(prog)s compare GRU4RecSoftmax GRU4RecMoS
  a page with tables and figures
    %(prog)s report results
  all options of a command, with examples
    %(prog)s run --help
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0; 1 where training diverged; 2 for input that cannot be used; 130 after Ctrl-C; 141
    where the reader of standard output has gone; 70 for a defect of the program, with a report in a file."""
    # Before PyTorch is loaded: by default its OpenMP threads wait for each other busily for long, which on a machine
    # that other programs use too makes the small steps of a recurrent network ten times slower and more.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ["MPLBACKEND"] = "agg"  # figures are files, whatever the user's sessions draw on
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever the terminal's alphabet
    atexit.unregister(settle_error_stream)
    atexit.register(settle_error_stream)
    parser = make_parser()
    if fault := environment_fault():
        print(f"{parser.prog}: error: {fault}", file=sys.stderr)
        return 2
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    if several_processes() and options.command != "run":
        parser.error(f"{options.command} runs in one process; only run takes several")
    options.program, options.arguments = parser.prog, list(sys.argv[1:] if arguments is None else arguments)
    level = logging.WARNING if options.quiet else logging.INFO
    with log_on_stderr(level if is_main() else logging.CRITICAL):
        return leave_by(_call, options, parser.prog)


def _call(options: argparse.Namespace) -> int:
    """Returns the exit status of the command, which may begin with seconds of imports."""
    if getattr(options, "processes", 1) != 1 and not (options.dry_run or started_here()):
        return run_in_processes(options)
    if options.loads is not None and options.loads not in sys.modules:
        # Hundreds of thousands of objects that stay, so that looking for garbage among them, now or later, is in vain:
        # a sixth of a start.
        enabled = gc.isenabled()
        gc.disable()
        try:
            with ProgressBar("loading PyTorch and what needs it"):
                import_module(options.loads)
        finally:
            gc.freeze()
            if enabled:
                gc.enable()
    return options.call(options)


def run_main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status of `mos-recbole run` with these arguments."""
    return main(["run", *(sys.argv[1:] if arguments is None else arguments)])


def sweep_main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status of `mos-recbole sweep` with these arguments."""
    return main(["sweep", *(sys.argv[1:] if arguments is None else arguments)])


def make_parser() -> Parser:
    """Returns the parser of the program with all its commands."""
    parser = Parser(prog="mos-recbole", text=_TEXT)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for module in _COMMANDS:
        name, text = module.__name__.rpartition(".")[2].replace("_", "-"), module.__doc__ or ""
        command = commands.add_parser(name, help=text.partition(".\n")[0], text=text)
        module.add_options(command)
        command.section("options")
        command.add_shared("--quiet")
        interrupted = getattr(module, "INTERRUPTED", "nothing was changed")
        command.set_defaults(call=module.call, interrupted=interrupted, loads=getattr(module, "LOADS", None))
    return parser
