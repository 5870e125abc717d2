"""The files of measured spectra: tables, singular values and a figure."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from mos_recbole.io import require_writable
from mos_recbole.report.spectra import Spectra, spectra_table
from mos_recbole.report.table import escape_markdown

FIGURE = "spectrum"


def write_spectra(spectra: Spectra, output: Path) -> list[Path]:
    """Returns the files that were written into a folder; after an error all are as before.

    Args:
        spectra: what was measured.
        output: the folder, which is made where it is missing.

    Raises:
        InputError: the folder cannot be written to.
    """
    # Here and not above, so that tables do not wait for matplotlib.
    from mos_recbole.report.spectra_figure import draw_spectra
    from mos_recbole.report.style import save_figure

    require_writable(output)
    caption = "\n".join(f"- {escape_markdown(line)}" for line in spectra.caption().splitlines())
    writers: Mapping[str, Callable[[Path], object]] = {
        "spectrum.md": lambda path: path.write_text(
            f"# Spectra\n\n{spectra_table(spectra).grid('github')}\n\n{caption}\n", encoding="utf-8", newline="\n"
        ),
        "spectrum.csv": lambda path: spectra.frame().to_csv(path, index=False, lineterminator="\n"),
        "singular_values.parquet": lambda path: spectra.singular_values().to_parquet(path, index=False),
    }
    temporary = output / f".spectrum.{os.getpid()}.tmp"
    try:
        temporary.mkdir()
        for name, write in writers.items():
            write(temporary / name)
        paths = [temporary / name for name in writers] + save_figure(draw_spectra(spectra), temporary, FIGURE)
        for path in paths:
            os.replace(path, output / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [output / path.name for path in paths]
