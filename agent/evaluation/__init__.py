"""Evaluating runs: a package for each command, and beside them what several share.

- `comparison`: `nearfar curves`, and the learning curve that `nearfar train` ends with;
- `inspection`: `nearfar inspect`; `probe`: `nearfar probe`;
- `visits`: visited states, for training, `nearfar inspect` and comparisons;
- `statistics` with `intervals`, `resampling` and `score_checks`: numbers of several runs;
- `evaluations` and `run_files`: what runs wrote; `published`: what others reached.
"""
