"""How long an update takes with each objective, by `nearfar bench`; alone on the machine.

python benchmarks/update_times.py [NAME ...] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).parent
TRAINING_ONLY = ("--frames", "--logging.")


def flags_of(names: list[str] | None = None) -> dict[str, list[str]]:
    """Flags of `nearfar bench` for each objective of the suites `objectives` and `paradigms`."""
    suites = yaml.safe_load((HERE / "suites.yaml").read_text())
    entries = {"contrastive": suites["cartpole"]["cpu"]} | suites["objectives"] | suites["paradigms"]
    if unknown := set(names or ()) - set(entries):
        raise SystemExit(f"no {', '.join(sorted(unknown))}; there are {', '.join(entries)}")
    return {name: _without_training(str(entries[name]["flags"]).split()) for name in names or entries}


def _without_training(flags: list[str]) -> list[str]:
    """Flags and their values without those of options that only training has."""
    pairs = zip(flags[::2], flags[1::2], strict=True)
    return [part for pair in pairs if not pair[0].startswith(TRAINING_ONLY) for part in pair]


def main() -> None:
    """Measure one after another; results that exist for other objectives stay."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "update_times.json")
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name, flags in flags_of(options.names).items():
        command = [sys.executable, "-m", "scripts.cli", "bench", "--json", *flags]
        found[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        options.out.write_text(json.dumps(found, indent=2) + "\n")
        print(f"{name:16}{found[name]['update_ms']:8.1f} ms", flush=True)


if __name__ == "__main__":
    main()
