"""Readers: a file's columns, and the interactions in it, every fault named by its line."""

from mos_recbole.data.reading.atomic import RATINGS_FILE, RATINGS_HEADER, LogFile
from mos_recbole.data.reading.log import InteractionLog, TokenColumn, read_log

__all__ = ["RATINGS_FILE", "RATINGS_HEADER", "InteractionLog", "LogFile", "TokenColumn", "read_log"]
