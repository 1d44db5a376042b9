"""Sweeps: what to run (`plan`), what has happened (`ledger`), and how it is carried out (`scheduler`)."""
