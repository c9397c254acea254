"""`python -m evaluate.robustness --runs DIR --cache DIR`: accuracy with parts of clips changed."""

from cache.command import launch

if __name__ == "__main__":
    launch("evaluate.robustness.cli", "report,features")
