"""What a run's id is made of: whatever can change its numbers, each by itself; and what makes numbers comparable."""

from collections.abc import Callable
from typing import Any

import pytest

from mos_recbole.experiment import identity
from mos_recbole.experiment.identity import protocol_hash, run_name
from mos_recbole.results import run_identity
from mos_recbole.settings import Settings, load_settings


def small(**changes: Any) -> Settings:
    return load_settings("GRU4RecMoS", overrides=changes)


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Returns a function (settings=..., fingerprint=..., device=..., code=..., versions...) -> name of a run."""
    found = dict(identity.versions())

    def make(
        settings: Settings | None = None,
        fingerprint: str = "f00d",
        device: str = "cpu",
        code: str = "c",
        **versions: str,
    ) -> str:
        monkeypatch.setattr(identity, "versions", lambda: found | versions)
        monkeypatch.setattr(identity, "source_hash", lambda _: code.ljust(64, "0"))
        return run_name(settings or small(), fingerprint, device)

    return make


def test_whatever_can_change_numbers_is_in_the_id(name: Callable[..., str]) -> None:
    """Settings, seed, data, code, kind of device, and the packages that compute; other packages are not."""
    plain = name()
    assert plain.startswith("GRU4RecMoS-ml-100k-seed2020-")
    ids = [
        one.rpartition("-")[2]
        for one in (
            *(plain, name(small(weight_decay=0.1)), name(small(train_batch_size=64)), name(small(seed=1))),
            *(name(fingerprint="cafe"), name(device="cuda"), name(code="d"), name(code="c" * 11 + "d")),
            *(name(**{package: "0.0"}) for package in ("torch", "recbole", "numpy")),
        )
    ]
    assert len(set(ids)) == len(ids)
    assert name(pandas="0.0", scipy="0.0", python="3") == name(small(eval_batch_size=7)) == plain


def test_every_part_of_an_id_counts() -> None:
    parts: list[Any] = [{"a": 1, "b": 2}, "data", "code", {"device": "cpu", "torch": "2"}]
    others: list[Any] = [{"a": 1, "b": 3}, "other", "more", {"device": "cpu", "torch": "3"}]
    changed = [[*parts[:place], others[place], *parts[place + 1 :]] for place in range(4)]
    ids = [run_identity(*one) for one in (parts, *changed)]
    assert len(set(ids)) == 5
    assert run_identity({"b": 2, "a": 1}, *parts[1:]) == ids[0]


def test_what_makes_numbers_comparable() -> None:
    """The interactions and each part of the protocol; not the model, nor features beside the interactions."""
    different = [
        {},
        {"filter_seen": True},
        {"tie_rule": "pessimistic"},
        {"final_fit": "train+valid"},
        {"held_out": "test_only"},
        {"split": "ratio"},
        {"split": "ratio", "test_ratio": 0.2},
        {"split": "temporal"},
        {"split": "temporal", "context_reach": "past"},
        {"split": "temporal", "min_side_interactions": 2},
        {"split": "temporal", "test_share": 0.2},
    ]
    hashes = [protocol_hash(small(**changes).protocol(has_repeats=True), "f00d") for changes in different]
    assert len(set(hashes)) == len(hashes)
    assert protocol_hash(small().protocol(has_repeats=True), "cafe") not in hashes
    auto = small().protocol(has_repeats=False)
    assert (
        protocol_hash(auto, "f00d") == hashes[1]
    )  # where no user has an item twice, those of the history are left out
    same = [small(mos_heads=2), small(seed=7), small(learning_rate=0.1), load_settings("Pop")]
    assert {protocol_hash(one.protocol(has_repeats=True), "f00d+features") for one in same} == {hashes[0]}
    assert [small(**changes).protocol(has_repeats=True).candidates for changes in different[-4:]] == ["trained"] * 4
