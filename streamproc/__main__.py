"""`python -m streamproc`: the same as the program `streamproc`."""

from streamproc.cli import main

main()
