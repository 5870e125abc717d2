"""The trials of a sweep, in memory and in the files of its folder, and which of them are still to be run."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mos_recbole.analysis.selection import best_trial_configurations
from mos_recbole.errors import InputError
from mos_recbole.results import RECORD_FILE, SWEEP_FILE, TrialStatus, read_trials
from mos_recbole.sweep.plan import PlannedTrial, Planner
from mos_recbole.sweep.storage import Storage


class Ledger:
    """All trials of a sweep: those of the plan, and those that earlier sessions left in its folder.

    Args:
        planner: of the sweep.
        planned: the trials of the plan.
        folder: of the sweep.
        storage: where runs are kept, if not in the folder alone.
        retry_failed: whether trials that failed in an earlier session are tried again.

    Attributes:
        trials: every trial that is known so far, by the name of its run.

    Raises:
        InputError: a trial of an earlier session was made by other code, packages, data or kind of device.
    """

    def __init__(
        self,
        planner: Planner,
        planned: list[PlannedTrial],
        folder: Path,
        storage: Storage | None = None,
        *,
        retry_failed: bool = False,
    ) -> None:
        self.planner, self.plan, self.sweep = planner, planner.plan(), planner.sweep
        self.folder, self.storage = folder, storage
        self.trials = {one.trial.run: one for one in planned}
        for trial in read_trials(folder) if (folder / SWEEP_FILE).exists() else []:
            known = self.trials.get(trial.run)
            if known is None:
                known = planner.trial(trial.number, trial.model, trial.dataset, trial.seed, trial.parameters)
            if known.trial.run != trial.run:
                raise InputError(
                    f"{folder}: holds trials of other code, package versions, data or device than these "
                    f"(run {trial.run}, now {known.trial.run}); expected the same ones, or another name or output"
                )
            if trial.ended == "failed" and retry_failed:
                trial = trial.model_copy(update={"ended": None, "error": None, "attempts": 0})
            self.trials[trial.run] = PlannedTrial(trial, known.settings)

    def synchronize(self) -> None:
        """Copies new files of runs from the storage, and writes the files of trials that are new or have changed."""
        for run in self.trials:
            if not self.has_record(run):
                self.fetch(run)
        written = {trial.run: trial for trial in read_trials(self.folder)}
        for one in self.trials.values():
            if one.trial != written.get(one.trial.run):
                one.trial.write(self.folder)

    def fetch(self, run: str) -> None:
        """Copies the files of a run, without its checkpoints, from the storage, if there is one."""
        if self.storage is not None:
            self.storage.fetch(self.trials[run].trial.folder(self.folder), checkpoints=False)

    def has_record(self, run: str) -> bool:
        """Returns whether the record of a run is in the folder."""
        return (self.trials[run].trial.folder(self.folder) / RECORD_FILE).exists()

    def add(self, one: PlannedTrial) -> None:
        """Adds a new trial, and writes its file."""
        self.trials[one.trial.run] = one
        one.trial.write(self.folder)

    def update(self, run: str, **changes: Any) -> None:
        """Changes fields of a trial, and writes its file."""
        one = self.trials[run]
        self.add(PlannedTrial(one.trial.model_copy(update=changes), one.settings))

    def status(self, one: PlannedTrial) -> TrialStatus:
        """Returns the status of a trial by its files."""
        return one.trial.status(self.folder)

    def best_validation(self, one: PlannedTrial) -> float | None:
        """Returns a trial's best validation so far."""
        return one.trial.best_validation(self.folder, self.plan.metric, self.plan.mode)

    def epochs_trained(self, one: PlannedTrial) -> int:
        """Returns how many epochs a trial has trained."""
        log = one.trial.training_log(self.folder)
        return 0 if log is None or log.empty else int(log["epoch"].iloc[-1])

    def next_number(self) -> int:
        """Returns the number of the next new trial."""
        return max((one.trial.number for one in self.trials.values()), default=0) + 1

    def searched(self) -> list[PlannedTrial]:
        """Returns the trials of the search; the others give the winners of an adaptive search their further seeds."""
        first = self.plan.seeds[0]
        return [one for one in self.trials.values() if one.trial.seed == first or not self.sweep.adaptive]

    def unfinished(self, *, winners: bool = False) -> list[PlannedTrial]:
        """Returns the trials that are still to be run, in the order in which to start them.

        Args:
            winners: whether to return further seeds of an adaptive search's winners, or trials of the search.
        """
        trials = list(self.trials.values())
        if self.sweep.stopping.scheduler == "none":
            # The longest first, so that no long trial is left for the end.
            trials.sort(key=lambda one: -one.work)
        else:
            # Successive halving compares a trial with those before it; neighbours in a grid are too much alike.
            order = np.random.default_rng(self.sweep.search.seed).permutation(len(trials))
            trials = [trials[place] for place in order]
        searched = {one.trial.run for one in self.searched()}
        return [
            one for one in trials if self.status(one) == "unfinished" and (one.trial.run not in searched) == winners
        ]

    def to_suggest(self) -> int:
        """Returns how many trials Optuna has still to suggest; a small space has fewer than asked for."""
        if self.sweep.search.method != "optuna":
            return 0
        known = Counter(one.key for one in self.searched())
        return sum(max(0, len(self.planner.configurations(*key)) - known[key]) for key in self.planner.known)

    def missing_winners(self) -> list[PlannedTrial]:
        """Returns new trials: the best configuration of each model and data set with the further seeds."""
        if not self.sweep.adaptive or len(self.plan.seeds) == 1:
            return []
        missing: list[PlannedTrial] = []
        for trial in best_trial_configurations(self.folder):
            for seed in self.plan.seeds[1:]:
                number = self.next_number() + len(missing)
                one = self.planner.trial(number, trial.model, trial.dataset, seed, trial.parameters)
                if one.trial.run not in self.trials:
                    missing.append(one)
        return missing

    def work_left(self) -> bool:
        """Returns whether anything is still to be run, as far as is known before it has run."""
        return bool(self.unfinished() or self.to_suggest() or self.unfinished(winners=True) or self.missing_winners())
