"""Command line of the pipeline in a checkout, the same as `tsgb run`: see `--help`."""

from __future__ import annotations

from pipeline.commands.app import main

if __name__ == "__main__":
    main()
