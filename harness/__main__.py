"""`python -m harness` is `bitnet-audit`."""

from harness.cli import main

if __name__ == "__main__":
    main()
