"""From atomic files to flat sequences, and where in them the targets of training, validation and test are."""

from mos_recbole import compat  # noqa: F401 – first: says what to do where RecBole is missing
from mos_recbole.data.dataset import SequenceDataset, interactions_fingerprint
from mos_recbole.data.reading import dataset_name, dataset_place, is_table
from mos_recbole.data.sequences import Segments, Sequences
from mos_recbole.data.settings import DATA_SETTINGS
from mos_recbole.data.splits import SPLITS, Split, SplitSpec
from mos_recbole.data.summary import DataSummary

__all__ = [
    "DATA_SETTINGS",
    "SPLITS",
    "DataSummary",
    "Segments",
    "SequenceDataset",
    "Sequences",
    "Split",
    "SplitSpec",
    "dataset_name",
    "dataset_place",
    "interactions_fingerprint",
    "is_table",
]
