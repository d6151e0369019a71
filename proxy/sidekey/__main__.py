"""Run the command line with `python -m sidekey`."""

from sidekey.cli import main

main(prog_name="sidekey")
