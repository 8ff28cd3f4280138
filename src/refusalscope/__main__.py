"""`python -m refusalscope` is the command `refusalscope`."""

from refusalscope.cli.main import main

if __name__ == "__main__":
    main()
