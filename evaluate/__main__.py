"""`python -m evaluate --runs DIR --out DIR [--cache DIR]`: from runs to report.html."""

from cache.command import launch

if __name__ == "__main__":
    launch("evaluate.cli", "report")
