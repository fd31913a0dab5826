"""`python -m quillrt.cli`: the same command, for torchrun and for machines without the script on the path."""

from quillrt.cli.main import main

main()
