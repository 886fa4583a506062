"""`python -m barlowctl`."""

from barlowctl.cli.app import main

if __name__ == "__main__":
    main()
