"""`python -m tireid` is the command `tireid`."""

from tireid.cli.main import main

if __name__ == "__main__":
    main()
