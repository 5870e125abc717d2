"""What holds for every split, whatever it is."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mos_recbole.data import SPLITS, Sequences

HISTORIES = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=9), min_size=1, max_size=6)


def flat(histories: Sequence[Sequence[int]]) -> Sequences:
    times = [time for history in histories for time in sorted(history)]
    offsets = np.cumsum([0, *map(len, histories)])
    users = np.arange(1, len(histories) + 1, dtype=np.int32)
    return Sequences(np.arange(1, len(times) + 1, dtype=np.int32), np.array(times, dtype=np.int64), offsets, users)


@pytest.mark.parametrize("name", SPLITS)
@given(histories=HISTORIES)
def test_a_target_is_on_one_side_and_follows_its_own_users_context(name: str, histories: list[list[int]]) -> None:
    """With the default settings; a context has an item at least. Facts come with a sentence."""
    spec, sequences = SPLITS[name], flat(histories)
    split = spec.apply(sequences, {setting.key: setting.default for setting in spec.settings})
    seen: set[int] = set()
    for side in (split.train, split.valid, split.test):
        rows, segment = side.targets()
        users, context = side.user[segment], side.context_start[segment]
        assert (sequences.offsets[users] <= context).all()
        assert (context < rows).all()
        assert (rows < sequences.offsets[users + 1]).all()
        assert seen.isdisjoint(rows.tolist())
        seen |= set(rows.tolist())
    assert bool(split.facts) == bool(split.note)


@given(histories=HISTORIES, sides=st.lists(st.integers(0, 2), min_size=54, max_size=54))
def test_rows_of_other_files_are_not_training_s(histories: list[list[int]], sides: list[int]) -> None:
    """General models train on training's file and nothing else, though a user's first row elsewhere is no target."""
    whole = flat(histories)
    bounds = list(pairwise(whole.offsets.tolist()))
    of_rows = np.array([side for first, last in bounds for side in sorted(sides[first:last])], dtype=np.int8)
    sequences = replace(whole, sides=of_rows)
    split = SPLITS["files"].apply(sequences, {"benchmark_filename": ["train", "valid", "test"]})
    assert split.train_interactions(sequences.offsets).tolist() == (of_rows == 0).tolist()
    both = split.with_validation_trained().train_interactions(sequences.offsets)
    assert both.tolist() == (of_rows <= 1).tolist()


@given(histories=HISTORIES, split_time=st.integers(0, 60), valid_time=st.integers(0, 60))
@pytest.mark.parametrize("reach", ["side", "past"])
def test_a_final_fit_has_all_before_the_test(
    histories: list[list[int]], split_time: int, valid_time: int, reach: str
) -> None:
    """Of models without sequences, as the first fit has all before validation: single rows of users are no targets."""
    sequences = flat(histories)
    spec = SPLITS["temporal"]
    values = {setting.key: setting.default for setting in spec.settings}
    values |= {"split_time": split_time, "valid_time": min(valid_time, split_time), "context_reach": reach}
    split = spec.apply(sequences, values)
    for one, border in ((split, values["valid_time"]), (split.with_validation_trained(), split_time)):
        assert one.train_interactions(sequences.offsets).tolist() == (sequences.times < border).tolist()


@pytest.mark.parametrize("name", SPLITS)
def test_a_setting_that_replaces_another_is_the_splits_own(name: str) -> None:
    """Where it is set, the other one is not read and so no part of the protocol."""
    spec = SPLITS[name]
    defaults = {setting.key: setting.default for setting in spec.settings}
    assert list(spec.read(defaults)) == [key for key in defaults if defaults.get(spec.replaced_by.get(key, "")) is None]
    for key, other in spec.replaced_by.items():
        assert {key, other} <= defaults.keys()
        assert key not in spec.read(defaults | {other: 1})
