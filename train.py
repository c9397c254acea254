"""Train one fold: `python train.py --cache DIR --fold 0`."""

import sys

from train.cli import main

if __name__ == "__main__":
    sys.exit(main())
