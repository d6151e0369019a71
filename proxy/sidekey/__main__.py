"""`python -m sidekey` is the command line."""

from sidekey.cli import main

main(prog_name="sidekey")
