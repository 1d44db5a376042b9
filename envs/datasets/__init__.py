"""Datasets of other projects, as episodes, and episodes as such datasets."""
