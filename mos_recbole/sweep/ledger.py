"""The trials of a sweep, in memory and in the files of its folder, and which of them are still to be run."""

import itertools
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from mos_recbole.analysis.selection import best_trial_configurations, configuration_key
from mos_recbole.errors import InputError
from mos_recbole.results import (
    RECORD_FILE,
    RUNS_FOLDER,
    SWEEP_FILE,
    SweepPlan,
    Trial,
    TrialStatus,
    read_plan,
    read_record,
    read_trials,
)
from mos_recbole.settings import accepted_settings
from mos_recbole.sweep.growth import grown_plan, refusal
from mos_recbole.sweep.plan import PlannedTrial, Planner
from mos_recbole.sweep.storage import Storage


class Ledger:
    """All trials of a sweep: those of the plan, and those that earlier sessions left in its folder.

    What is there stays, with its number: a file that plans more than the folder holds adds trials to it. Trials that
    have not ended and that the file does not plan are left alone.

    Args:
        planner: of the sweep.
        planned: the trials of the plan.
        folder: of the sweep.
        storage: where runs are kept, if not in the folder alone.
        retry_failed: whether trials that failed in an earlier session are tried again.

    Attributes:
        plan: of the folder's trials and the planned ones together.
        trials: every trial that is known so far, by the name of its run.
        added: number of planned trials that the folder did not have.
        left_alone: number of trials of the folder that have not ended and are not planned. The file of one whose place
            another one takes, with the same parameters and seed and other settings, goes.

    Raises:
        InputError: the folder's trials and the planned ones do not belong together.
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
        self.planner, self.sweep = planner, planner.sweep
        self.folder, self.storage = folder, storage
        self.plan, self.trials = planner.plan(), dict[str, PlannedTrial]()
        self.added, self._left_alone = 0, list[Trial]()
        self._planned = {one.trial.run: one for one in planned}
        earlier: list[Trial] = []
        if (folder / SWEEP_FILE).exists():
            there, earlier = read_plan(folder), read_trials(folder)
            self.plan = grown_plan(there, planner, folder)
            for trial in earlier:
                self._adopt(trial, there, retry_failed)
        self._numbers = {trial.number for trial in earlier}
        free = (number for number in itertools.count(1) if number not in self._numbers)
        for one in planned:
            if one.trial.run not in self.trials:
                trial = one.trial.model_copy(update={"number": next(free)})
                self.trials[trial.run] = PlannedTrial(self._described(trial, one, self.sweep.space), one.settings)
                self.added += 1
        if earlier:
            planner.check_together(list(self.trials.values()))

    def _adopt(self, trial: Trial, there: SweepPlan, retry_failed: bool) -> None:
        """Takes over a trial of the folder: all but those that have not ended and are not asked for any more.

        Raises:
            InputError: the sweep file makes another run of it.
        """
        if trial.ended == "failed" and retry_failed:
            trial = trial.model_copy(update={"ended": None, "error": None, "attempts": 0})
        if trial.status(self.folder) == "unfinished" and not self._asked_for(trial):
            self._left_alone.append(trial)
            return
        # Of other data sets, whose place is not known, nothing is compared with these.
        if trial.dataset not in self.planner.datasets:
            return
        one = self._planned.get(trial.run)
        if one is None:
            moved = {key: there.settings[key] for key in self.sweep.space if key in there.settings}
            one = self.planner.trial(
                trial.number, trial.model, trial.dataset, trial.seed, {**moved, **trial.parameters}
            )
            if one.trial.run != trial.run:
                record = read_record(trial.folder(self.folder)) if self.has_record(trial.run) else None
                raise InputError(refusal(self.folder, record, there, one, self.planner))
            described = self._described(trial, one, there.space)
        else:
            described = self._described(one.trial, one, self.sweep.space)
        self.trials[trial.run] = PlannedTrial(
            trial.model_copy(update={"parameters": described.parameters}), one.settings
        )

    def _asked_for(self, trial: Trial) -> bool:
        """Returns whether the sweep file plans a trial, or may: trials of Optuna, and winners with further seeds."""
        if not self.sweep.only_best_again or trial.run in self._planned:
            return trial.run in self._planned
        first, *others = self.sweep.seeds
        return trial.seed in others or (trial.seed == first and self.sweep.search.method == "optuna")

    def _described(self, trial: Trial, one: PlannedTrial, space: Collection[str]) -> Trial:
        """Returns a trial with its values of the parameters that the sweep has, and that its own space had not."""
        values = one.settings.values
        missing = [key for key in self.plan.space if key not in space and key not in trial.parameters and key in values]
        known = accepted_settings(trial.model, trial.dataset, missing) if missing else ()
        added = {key: values[key] for key in missing if key in known}
        if added and self._run_with(trial, added) != one.trial.run:
            # By being given, some settings have effects beside their own.
            added = {key: value for key, value in added.items() if self._run_with(trial, {key: value}) == one.trial.run}
        parameters = {**trial.parameters, **added}
        in_order = {key: parameters[key] for key in self.plan.space if key in parameters}
        return trial.model_copy(update={"parameters": in_order})

    def _run_with(self, trial: Trial, added: dict[str, Any]) -> str | None:
        """Returns the run of a trial with further parameters; None where these do not fit together."""
        parameters = {**trial.parameters, **added}
        try:
            return self.planner.trial(trial.number, trial.model, trial.dataset, trial.seed, parameters).trial.run
        except InputError:
            return None

    @property
    def left_alone(self) -> int:
        return len(self._left_alone)

    def fetch_all(self) -> None:
        """Copies new files of runs from the storage."""
        for run in self.trials:
            if not self.has_record(run):
                self.fetch(run)

    def save(self) -> None:
        """Writes the plan and the trials that are new or have changed."""
        if not (self.folder / SWEEP_FILE).exists() or read_plan(self.folder) != self.plan:
            self.plan.write(self.folder)
        written = {trial.run: trial for trial in read_trials(self.folder)}
        for one in self.trials.values():
            if one.trial != written.get(one.trial.run):
                self._write(one.trial)

    def _write(self, trial: Trial) -> None:
        """Writes a trial's file, in place of one that is left alone and that tables could not tell from it."""
        trial.write(self.folder)
        for other in self._left_alone:
            if other.seed == trial.seed and configuration_key(other) == configuration_key(trial):
                other.path(self.folder).unlink(missing_ok=True)

    def fetch(self, run: str) -> None:
        """Copies the files of a run, without its checkpoints, from the storage, if there is one."""
        if self.storage is not None:
            self.storage.fetch(self.trials[run].trial.folder(self.folder), checkpoints=False)

    def has_record(self, run: str) -> bool:
        """Returns whether the record of a run is in the folder."""
        return (self.folder / RUNS_FOLDER / run / RECORD_FILE).exists()

    def add(self, one: PlannedTrial) -> None:
        """Adds a new trial, and writes its file."""
        self.trials[one.trial.run] = one
        self._write(one.trial)

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

    def epoch_seconds(self, one: PlannedTrial) -> float | None:
        """Returns the mean seconds of a trial's epochs with their validations."""
        log = one.trial.training_log(self.folder)
        return None if log is None or log.empty else float((log["train_seconds"] + log["eval_seconds"]).mean())

    def wall_seconds(self, one: PlannedTrial) -> float | None:
        """Returns what a finished trial took in all."""
        run = one.trial.run
        return read_record(one.trial.folder(self.folder)).wall_seconds if self.has_record(run) else None

    def next_number(self) -> int:
        """Returns the number of the next new trial."""
        return max(self._numbers | {one.trial.number for one in self.trials.values()}, default=0) + 1

    def searched(self) -> list[PlannedTrial]:
        """Returns the trials of the search; the others give the winners of an adaptive search their further seeds."""
        first = self.plan.seeds[0]
        return [one for one in self.trials.values() if one.trial.seed == first or not self.sweep.only_best_again]

    def unfinished(self, *, winners: bool = False) -> list[PlannedTrial]:
        """Returns the trials that are still to be run, in the order in which to start them.

        Args:
            winners: whether to return further seeds of an adaptive search's winners, or trials of the search.
        """
        trials = sorted(self.trials.values(), key=lambda one: one.trial.number)
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

    def to_come(self) -> int:
        """Returns how many trials are not known yet: Optuna's, and the winners' with the further seeds."""
        if not self.sweep.only_best_again:
            return 0
        winners = len(self.planner.known) * (len(self.sweep.seeds) - 1)
        return self.to_suggest() + max(0, winners - (len(self.trials) - len(self.searched())))

    def missing_winners(self) -> list[PlannedTrial]:
        """Returns new trials: the best configuration of each model and data set with the further seeds."""
        if not self.sweep.only_best_again or len(self.sweep.seeds) == 1:
            return []
        missing: list[PlannedTrial] = []
        for trial in best_trial_configurations(self.folder):
            if (trial.model, trial.dataset) not in self.planner.known:  # of an earlier sweep file
                continue
            for seed in self.sweep.seeds[1:]:
                number = self.next_number() + len(missing)
                one = self.planner.trial(number, trial.model, trial.dataset, seed, trial.parameters)
                if one.trial.run not in self.trials:
                    missing.append(one)
        return missing

    def work_left(self) -> bool:
        """Returns whether anything is still to be run, as far as is known before it has run."""
        return bool(self.unfinished() or self.to_suggest() or self.unfinished(winners=True) or self.missing_winners())
