"""What runs and sweeps leave behind, as typed records."""

from mos_recbole.results.records import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    LOG_FILE,
    OUTCOMES_FILE,
    RECORD_FILE,
    RUN_FILES,
    RUNS_FOLDER,
    Metric,
    RunResult,
    find_records,
    read_record,
    run_identity,
)
from mos_recbole.results.sweeps import (
    SWEEP_FILE,
    TRIALS_FOLDER,
    SweepPlan,
    Trial,
    TrialStatus,
    read_plan,
    read_trials,
)

__all__ = [
    "BEST_CHECKPOINT",
    "LAST_CHECKPOINT",
    "LOG_FILE",
    "OUTCOMES_FILE",
    "RECORD_FILE",
    "RUNS_FOLDER",
    "RUN_FILES",
    "SWEEP_FILE",
    "TRIALS_FOLDER",
    "Metric",
    "RunResult",
    "SweepPlan",
    "Trial",
    "TrialStatus",
    "find_records",
    "read_plan",
    "read_record",
    "read_trials",
    "run_identity",
]
