"""Splits by user against RecBole's own, and what splits by time refuse."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.dataset import SequentialDataset
from tiny_data import write_inter

from mos_recbole.data import SequenceDataset
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings
from mos_recbole.settings import Settings

CPU = torch.device("cpu")
SIDES = ("train", "valid", "test")
# (user, context, target) -> how often
Samples = Counter[tuple[int, tuple[int, ...], int]]


def settings_of(folder: Path, model: str = "GRU4RecSoftmax", **overrides: Any) -> Settings:
    return load_settings(model, str(folder), overrides=overrides)


def load(folder: Path, **overrides: Any) -> SequenceDataset:
    return SequenceDataset(settings_of(folder, **overrides).recbole_config(CPU))


def samples_of(data: SequenceDataset, side: str) -> Samples:
    flat, segments = data.sequences, getattr(data.split(), side)
    found: Samples = Counter()
    for row, number in zip(*segments.targets(), strict=True):
        user, context = segments.user[number], flat.items[segments.context_start[number] : row]
        found[int(flat.users[user]), tuple(context.tolist()), int(flat.items[row])] += 1
    return found


def recboles_samples(folder: Path, eval_args: dict[str, Any]) -> dict[str, Samples]:
    config = settings_of(folder, "SASRec").recbole_config(CPU)
    config["eval_args"] = config["eval_args"] | eval_args
    found: dict[str, Samples] = {}
    for side, part in zip(SIDES, SequentialDataset(config).build(), strict=True):
        found[side] = Counter()
        for row in range(len(part)):
            one = part.inter_feat[row]
            context = one["item_id_list"][: int(one["item_length"])].tolist()
            found[side][int(one["user_id"]), tuple(context), int(one["item_id"])] += 1
    return found


@pytest.fixture
def users_of_1_to_30(tmp_path: Path) -> Path:
    """A user of each length from 1 to 30, at times of their own."""
    generator = np.random.default_rng(3)
    rows = [
        (f"u{length}", f"i{generator.integers(40)}", 100 * step + length)
        for length in range(1, 31)
        for step in range(length)
    ]
    return write_inter(tmp_path, "lengths", rows)


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (8, 1, 1), (0.5, 0.2, 0.3), (0.1, 0.45, 0.45), (0.98, 0.01, 0.01)])
def test_the_split_by_ratio_is_recboles(users_of_1_to_30: Path, shares: tuple[float, ...]) -> None:
    _, valid, test = (share / sum(shares) for share in shares)
    data = load(users_of_1_to_30, split="ratio", valid_ratio=valid, test_ratio=test)
    expected = recboles_samples(users_of_1_to_30, {"split": {"RS": list(shares)}, "group_by": "user"})
    for side in SIDES:
        assert samples_of(data, side) == expected[side], side


def test_the_split_by_ratio_is_a_protocol_of_its_own() -> None:
    settings = load_settings("GRU4RecSoftmax", overrides={"split": "ratio", "test_ratio": 0.2})
    assert settings.protocol(has_repeats=True).split == {"name": "ratio", "valid_ratio": 0.1, "test_ratio": 0.2}
    assert settings.identity()["valid_ratio"] == 0.1
    other = load_settings("GRU4RecSoftmax")
    assert other.protocol(has_repeats=True).split == {"name": "leave_one_out"}
    assert "valid_ratio" not in other.identity()
    assert settings.protocol(has_repeats=True).hash("data") != other.protocol(has_repeats=True).hash("data")


def test_leave_one_out_for_the_test_only_is_recboles(users_of_1_to_30: Path) -> None:
    """Also a split by ratio without validation."""
    data = load(users_of_1_to_30, held_out="test_only")
    expected = recboles_samples(users_of_1_to_30, {"split": {"LS": "test_only"}})
    assert not expected["valid"]
    shares = load(users_of_1_to_30, split="ratio", valid_ratio=0, test_ratio=0.25)
    expected_shares = recboles_samples(users_of_1_to_30, {"split": {"RS": [3, 0, 1]}, "group_by": "user"})
    for side in SIDES:
        assert samples_of(data, side) == expected[side], side
        assert samples_of(shares, side) == expected_shares[side], side


def test_training_on_both_sides_has_the_targets_of_both(users_of_1_to_30: Path) -> None:
    """Of every split, with one run a user."""
    for overrides in ({}, {"split": "ratio"}, {"split": "temporal", "valid_time": 900, "split_time": 2000}):
        data = load(users_of_1_to_30, **overrides)
        split = data.split()
        both = split.with_validation_trained()
        rows = set(both.train.targets()[0].tolist())
        assert rows >= {*split.train.targets()[0].tolist(), *split.valid.targets()[0].tolist()}
        assert rows.isdisjoint(split.test.targets()[0].tolist())
        assert len(set(both.train.user.tolist())) == len(both.train.user)
        assert both.train_rows(len(data.sequences.items)).sum() >= len(rows)


def test_what_needs_validation_is_refused_without_one() -> None:
    with pytest.raises(InputError, match="final_fit is 'train\\+valid', but the split 'leave_one_out' has no"):
        load_settings("GRU4RecSoftmax", overrides={"held_out": "test_only", "final_fit": "train+valid"})
    with pytest.raises(InputError, match="held_out is 'valid_only'; it leaves nothing to test on; expected 'valid_and"):
        load_settings("GRU4RecSoftmax", overrides={"held_out": "valid_only"})
    settings = load_settings("GRU4RecSoftmax", overrides={"held_out": "test_only", "stopping_step": 3})
    assert settings.warnings == (
        "stopping_step: stopping_step has no effect where split 'leave_one_out' has no validation: the last epoch is "
        "the model",
    )


# ------------------------------------------------------------------------------------------------ by time


def test_two_times_give_a_published_split_exactly(users_of_1_to_30: Path) -> None:
    """A time outside of the training's interactions is where validation begins; the test as without it."""
    data = load(users_of_1_to_30, split="temporal", valid_time=1500, split_time=2200)
    flat, split = data.sequences, data.split()
    for side, low, high in (("train", 0, 1500), ("valid", 1500, 2200), ("test", 2200, 10_000)):
        times = flat.times[getattr(split, side).targets()[0]]
        assert ((times >= low) & (times < high)).all()
    assert (split.facts["valid_from"], split.facts["test_from"]) == (1500, 2200)
    settings = settings_of(users_of_1_to_30, split="temporal", valid_time=1500, split_time=2200, valid_share=0.2)
    assert settings.protocol(has_repeats=True).split["valid_time"] == 1500
    assert "valid_share" not in settings.protocol(has_repeats=True).split
    assert settings.warnings == ("valid_share: valid_share has no effect where valid_time is set",)


def test_a_setting_that_is_new_changes_no_identity_at_its_default() -> None:
    settings = load_settings("GRU4RecSoftmax", overrides={"split": "temporal"})
    assert "valid_time" in settings.values
    assert "valid_time" not in settings.identity().keys() | settings.protocol(has_repeats=True).split.keys()
    given = load_settings("GRU4RecSoftmax", overrides={"split": "temporal", "valid_time": 3})
    assert given.identity()["valid_time"] == given.protocol(has_repeats=True).split["valid_time"] == 3


@pytest.mark.parametrize(
    ("first", "is_refused"),
    [(lambda user: 0, True), (lambda user: 1, True), (lambda user: 50 * user, False)],
    ids=["from 0", "from 1", "times"],
)
def test_times_that_are_positions_are_refused_by_the_temporal_split(
    tmp_path: Path, first: Callable[[int], int], is_refused: bool
) -> None:
    """Also where filters leave gaps in them. Other splits take them as the order."""
    rows = [
        (f"u{user}", f"i{(user + step) % 13}", first(user) + step)
        for user in range(20)
        for step in range(5 + user)
        if (user, step) not in {(3, 0), (4, 2), (8, 5)}
    ]
    folder = write_inter(tmp_path, "positions", rows)
    load(folder, split="leave_one_out").split()
    if is_refused:
        with pytest.raises(InputError, match="split is 'temporal', but the times in 'timestamp' number each"):
            load(folder, split="temporal").split()
    else:
        load(folder, split="temporal").split()


def test_shares_of_more_than_all_targets_are_refused(users_of_1_to_30: Path) -> None:
    message = "valid_ratio 0.6 and test_ratio 0.5 are more than all targets; expected a sum of at most 1"
    with pytest.raises(InputError, match=message):
        load(users_of_1_to_30, split="ratio", valid_ratio=0.6, test_ratio=0.5)
