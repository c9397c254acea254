"""`python -m preprocess --raw DIR --cache DIR`: raw RAVDESS clips to HDF5 shards."""

from cache.command import launch

if __name__ == "__main__":
    launch("preprocess.cli", "features")
