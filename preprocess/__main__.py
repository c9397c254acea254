"""`python -m preprocess --raw DIR --cache DIR`: raw RAVDESS clips to HDF5 shards."""

import sys

from cache.extras import lack

try:
    from preprocess.cli import main
except ModuleNotFoundError as exc:
    print(lack(exc, "features"), file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
