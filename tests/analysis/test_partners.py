"""Models that look like partners and are not."""

import pytest

from mos_recbole.analysis import Trained, partner_notes

OWN, MOS = Trained("GRU4Rec", None, None, "prefix"), Trained("GRU4RecMoS", "GRU4Rec", "GRU4RecSoftmax", "all_positions")
SOFTMAX = Trained("GRU4RecSoftmax", "GRU4Rec", None, "all_positions")


def test_a_class_of_recbole_beside_models_of_its_encoder() -> None:
    """One line, however many runs and models: what differs, and what to compare instead."""
    (note,) = partner_notes([OWN, MOS, SOFTMAX, MOS, OWN])
    assert note.startswith("GRU4Rec is RecBole's own class and trains on prefixes, GRU4RecMoS and GRU4RecSoftmax on ")
    assert note.endswith("; the fair partner of GRU4RecMoS is GRU4RecSoftmax")
    (note,) = partner_notes([OWN, SOFTMAX])
    assert note.endswith("; --train_mode=prefix trains GRU4RecSoftmax as RecBole does")


@pytest.mark.parametrize(
    "models",
    [
        [MOS, SOFTMAX],
        [OWN, MOS._replace(train_mode="prefix")],
        [OWN, MOS._replace(encoder="SASRec", model="SASRecMoS")],
        [OWN._replace(train_mode=None), MOS],
    ],
    ids=["ours alone", "both on prefixes", "another encoder", "lists of somebody else's"],
)
def test_fair_partners(models: list[Trained]) -> None:
    assert partner_notes(models) == []
