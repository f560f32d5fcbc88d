"""`python -m galerly_cdn` is `galerly-cdn`."""

from galerly_cdn.cli import main

main()
