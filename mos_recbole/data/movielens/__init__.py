"""MovieLens' releases: fetched, unpacked, checked, and made a data set's folder."""

from mos_recbole.data.movielens.folder import DataFile, obtain

__all__ = ["DataFile", "obtain"]
