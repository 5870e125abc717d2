"""Readers: a file's columns, and the interactions in it, every fault named by its line."""

from mos_recbole.data.reading.atomic import RATINGS_FILE, RATINGS_HEADER, LogFile, is_cut_off, read_header
from mos_recbole.data.reading.features import read_features
from mos_recbole.data.reading.log import InteractionLog, TokenColumn, read_log
from mos_recbole.data.reading.split_files import SplitColumns, SplitRows, read_split_files
from mos_recbole.data.reading.tables import dataset_name, dataset_place, is_table, table_file

__all__ = [
    "RATINGS_FILE",
    "RATINGS_HEADER",
    "InteractionLog",
    "LogFile",
    "SplitColumns",
    "SplitRows",
    "TokenColumn",
    "dataset_name",
    "dataset_place",
    "is_cut_off",
    "is_table",
    "read_features",
    "read_header",
    "read_log",
    "read_split_files",
    "table_file",
]
