"""The search space: grids, draws, conditions."""

import itertools
import json
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
from hypothesis import given, settings
from scipy.stats import kstest

from mos_recbole.sweep.space import Parameter, draw, expand_grid


def full_product(space: dict[str, Parameter], model: str, known: set[str]) -> list[dict[str, Any]]:
    """Returns the combinations of a grid the plain way: all of them, without what does not hold, each once."""
    swept = [key for key, parameter in space.items() if parameter.grid is not None]
    found: list[dict[str, Any]] = []
    for values in itertools.product(*(space[key].grid or [] for key in swept)):
        of_key = dict(zip(swept, values, strict=True))
        chosen: dict[str, Any] = {}
        for key, parameter in space.items():
            facts = {"model": model, "dataset": "toy"} | chosen
            wanted = {name: value if isinstance(value, list) else [value] for name, value in parameter.when.items()}
            if key not in known or not all(name in facts and facts[name] in wanted[name] for name in wanted):
                continue
            if parameter.same_as is None:
                chosen[key] = of_key[key]
            elif parameter.same_as in chosen:
                chosen[key] = chosen[parameter.same_as]
        if chosen not in found:
            found.append(chosen)
    return found


@st.composite
def grids(draw_: st.DrawFn) -> dict[str, Parameter]:
    """Spaces of up to five grids, with conditions on the model and on earlier parameters, and some same_as."""
    space: dict[str, Parameter] = {}
    for number in range(draw_(st.integers(1, 5))):
        earlier = list(space)
        content: dict[str, Any] = {}
        if earlier and draw_(st.integers(0, 3)) == 0:
            content["same_as"] = draw_(st.sampled_from(earlier))
        else:
            content["grid"] = draw_(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
        names = draw_(st.lists(st.sampled_from(["model", *earlier]), max_size=2, unique=True))
        conditions = {
            "model": st.sampled_from(["A", "B", ["A", "B"]]),
            "parameter": st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), min_size=1, max_size=3)),
        }
        content["when"] = {name: draw_(conditions.get(name, conditions["parameter"])) for name in names}
        space[f"p{number}"] = Parameter.model_validate(content)
    return space


@settings(max_examples=150, deadline=None)
@given(grids(), st.sets(st.sampled_from([f"p{number}" for number in range(5)]), min_size=3))
def test_grids_are_the_product_of_their_values(space: dict[str, Parameter], known: set[str]) -> None:
    """Each combination that holds, once, in the order of the product, the last parameter fastest."""
    for model in ("A", "B"):
        assert expand_grid(space, model, "toy", known) == full_product(space, model, known)


def test_a_grid_of_nothing_is_one_trial() -> None:
    """A model that has none of the parameters is run once."""
    assert expand_grid({"mos_heads": Parameter(grid=[2, 4])}, "Pop", "toy", set()) == [{}]


CONTINUOUS = {
    "rate": Parameter(loguniform=[1e-4, 1.0]),
    "share": Parameter(uniform=[-1.0, 3.0]),
    "whole": Parameter(randint=[2, 5]),
    "word": Parameter(choice=["a", "b", None, True]),
}


def test_draws_are_repeatable_distinct_and_within_bounds() -> None:
    """By seed, model and data set; the distributions are the named ones (Kolmogorov-Smirnov, fixed seed)."""
    drawn = draw(CONTINUOUS, "A", "toy", set(CONTINUOUS), 500, 3)
    assert drawn == draw(CONTINUOUS, "A", "toy", set(CONTINUOUS), 500, 3)
    assert drawn[:20] == draw(CONTINUOUS, "A", "toy", set(CONTINUOUS), 20, 3)
    for other in (("B", "toy", 3), ("A", "tools", 3), ("A", "toy", 4)):
        again = draw(CONTINUOUS, other[0], other[1], set(CONTINUOUS), 20, other[2])
        assert not any(one in drawn for one in again)
    assert len({json.dumps(one) for one in drawn}) == 500
    table = pd.DataFrame(drawn)
    assert table.rate.between(1e-4, 1).all()
    assert table.share.between(-1, 3).all()
    assert kstest(np.log10(table.rate), "uniform", args=(-4, 4)).pvalue > 0.01
    assert kstest(table.share, "uniform", args=(-1, 4)).pvalue > 0.01
    assert set(table.whole) == {2, 3, 4}
    assert all(type(one["whole"]) is int and type(one["rate"]) is float for one in drawn)
    counts = table.word.map(repr).value_counts()
    assert set(counts.index) == {"'a'", "'b'", "None", "True"}
    assert counts.between(90, 160).all()


def test_small_spaces_run_out() -> None:
    """As many different draws as there are; conditions and unknown parameters leave fewer."""
    space = {
        "a": Parameter(choice=[1, 2]),
        "b": Parameter(choice=["x", "y"], when={"a": 2}),
        "c": Parameter(choice=[5, 6], when={"model": "B"}),
        "d": Parameter(same_as="a"),
    }
    known = set(space)
    drawn = draw(space, "A", "toy", known, 10, 0)
    expected: list[dict[str, Any]] = [{"a": 1, "d": 1}, {"a": 2, "b": "x", "d": 2}, {"a": 2, "b": "y", "d": 2}]
    assert sorted(map(str, drawn)) == sorted(map(str, expected))
    assert len(draw(space, "B", "toy", known, 10, 0)) == 6
    assert len(draw(space, "B", "toy", known, 4, 0)) == 4
    assert draw(space, "A", "toy", {"c"}, 10, 0) == [{}]
