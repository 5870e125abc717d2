"""Runs as they can be published: without models, and without names of users and items."""

import shutil
from pathlib import Path

from mos_recbole.io import os_errors_as_input_errors
from mos_recbole.results.records import LOG_FILE, OUTCOMES_FILE, RunResult, run_files_sha256

_KEPT = ("rank", "tied", "candidates", "log_probability")


def keep_run(run: RunResult, folder: Path) -> None:
    """Writes a run without its model, with numbers for users and without items, which data sets' terms may keep back.

    The numbers are the same in all runs of a protocol, so that they can still be compared query by query.

    Raises:
        InputError: the run's files are missing or broken, or the folder cannot be written to.
    """
    import pandas as pd  # here and not above, so that a list of runs does not wait for it

    queries = run.outcomes().sort_values(["user", "position"], ignore_index=True)
    user = pd.Series(pd.factorize(queries["user"])[0])
    answers = queries[[name for name in _KEPT if name in queries]]
    kept = answers.assign(user=user.astype(str), position=user.groupby(user).cumcount(), target="")
    with os_errors_as_input_errors(folder, "the files of a finished run, and a folder that can be written to"):
        folder.mkdir(parents=True, exist_ok=True)
        kept.to_parquet(folder / OUTCOMES_FILE, index=False, compression="zstd")
        shutil.copyfile(run.folder / LOG_FILE, folder / LOG_FILE)
        run.model_copy(update={"files": run_files_sha256(folder)}).write(folder)
