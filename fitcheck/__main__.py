"""``python -m fitcheck`` is the command ``fitcheck``."""

from fitcheck.cli.main import main

if __name__ == "__main__":
    main()
