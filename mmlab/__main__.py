"""`python -m mmlab`."""

from mmlab.cli import main

if __name__ == "__main__":
    main()
