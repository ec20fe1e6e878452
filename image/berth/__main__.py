"""`python -m berth` and the `berth` command."""

from berth.cli.main import main

if __name__ == "__main__":
    main()
