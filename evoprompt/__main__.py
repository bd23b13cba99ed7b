"""`python -m evoprompt`."""

from evoprompt.cli import main

if __name__ == "__main__":
    main()
