"""Where the runs of a sweep are carried out: here (`local`), by Slurm, or by Ray (`ray_cluster`)."""
