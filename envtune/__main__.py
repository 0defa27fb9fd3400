"""`python -m envtune`: the command line."""

from envtune.cli import main

main()
