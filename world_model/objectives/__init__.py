"""Representation objectives, one family a file, chosen by name."""
