"""`python -m preprocess --raw DIR --cache DIR`: raw RAVDESS clips to HDF5 shards."""

import sys

try:
    from preprocess.cli import main
except ModuleNotFoundError as exc:
    sys.stderr.write(f"error: this needs {exc.name}: pip install '.[features]'\n")
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
