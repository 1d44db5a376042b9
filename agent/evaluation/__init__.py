"""Evaluating runs: returns, statistics, curves, pictures."""
