"""The energy that a run uses, as codecarbon estimates it; offline: nothing is sent, and no file is written."""

import importlib
import logging

from mos_recbole.errors import InputError


class EnergyMeter:
    """What this process uses from `start` to `stop`.

    codecarbon reads the processor's and the GPU's counters where they may be read. Elsewhere it takes the processor's
    rated power by this process's load, and for memory a power by its size.

    Raises:
        InputError: the package is missing.
    """

    def __init__(self) -> None:
        try:
            codecarbon = importlib.import_module("codecarbon")
        except ImportError:
            raise InputError(
                "energy needs codecarbon; expected the extra mos_recbole[energy] to be installed"
            ) from None
        logging.getLogger("codecarbon").setLevel(logging.ERROR)  # which importing it has set
        self._tracker = codecarbon.OfflineEmissionsTracker(
            country_iso_code="USA",  # it needs one, for emissions, which are not recorded
            tracking_mode="process",
            allow_multiple_runs=True,
            log_level="error",
            emissions_endpoint=False,
            **dict.fromkeys(("save_to_file", "save_to_api", "save_to_logger", "save_to_prometheus"), False),
        )

    def start(self) -> None:
        """Begins to measure."""
        self._tracker.start()

    def stop(self) -> tuple[dict[str, float], str]:
        """Returns what was used, in kWh, by the processor, the memory and the GPU, and how that is known."""
        self._tracker.stop()
        found = self._tracker.final_emissions_data
        used = {"cpu": found.cpu_energy, "memory": found.ram_energy, "gpu": found.gpu_energy}
        how = f"codecarbon {found.codecarbon_version}, estimate for this process on {found.cpu_model}"
        return used, f"{how} and {found.gpu_model}" if found.gpu_model else how
