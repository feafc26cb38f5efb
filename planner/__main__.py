"""Lets ``python -m planner`` do what ``planner`` does."""

from planner.cli.main import main

if __name__ == "__main__":
    main()
