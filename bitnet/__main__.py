"""`python -m bitnet` is the program `bitnet`."""

from bitnet.cli import main

main()
