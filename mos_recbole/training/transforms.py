"""RecBole's batch transforms: what BERT4Rec and SHAN are given in place of the plain sequences."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform

from mos_recbole.data import SequenceDataset
from mos_recbole.models import EncoderHeadRecommender

# Transforms without random numbers: queries go through them like training batches.
_QUERY_TRANSFORMS = ("inverse_itemseq",)


class BatchTransform:
    """RecBole's transform of a model's batches (`recbole.data.transform`), by the name in `config["transform"]`.

    RecBole draws from Python's global source of random numbers. Here the source is an argument, so that masks, like the
    order of the samples, depend on the seed and the epoch alone.

    Args:
        config: RecBole's.
        dataset: for the number of items.
    """

    def __init__(self, config: Any, dataset: SequenceDataset) -> None:
        self._transform, self._dataset = construct_transform(config), dataset

    def __call__(self, batch: Interaction, source: random.Random) -> Interaction:
        """Returns the batch with the transform's columns beside its own; it may be the same object."""
        with _drawing_from(source):
            return self._transform(self._dataset, batch)


def training_transform(config: Any, dataset: SequenceDataset) -> BatchTransform | None:
    """Returns the transform of a model's training batches; None where it has none.

    An encoder that is taken from a model of RecBole's is trained on prefixes, whatever that model is trained on.
    """
    return BatchTransform(config, dataset) if _transform_of(config) is not None else None


def query_transform(config: Any, dataset: SequenceDataset) -> BatchTransform | None:
    """Returns the transform of the batches that a model is asked to score; None where it takes them as they are."""
    return BatchTransform(config, dataset) if _transform_of(config) in _QUERY_TRANSFORMS else None


def _transform_of(config: Any) -> str | None:
    return None if issubclass(config["model_class"], EncoderHeadRecommender) else config["transform"]


def has_no_targets(batch: Interaction) -> bool:
    """Returns whether a masked batch has no masked item that counts; RecBole's BERT4Rec takes a mean over these.

    It ignores a masked first position, whose index is also the padding of the indices.
    """
    return "MASK_INDEX" in batch and not bool((batch["MASK_INDEX"] > 0).any())


@contextmanager
def _drawing_from(source: random.Random) -> Iterator[None]:
    """Lets the functions of `random` draw from another source while the context is open."""
    before = random.getstate()
    random.setstate(source.getstate())
    try:
        yield
    finally:
        source.setstate(random.getstate())
        random.setstate(before)
