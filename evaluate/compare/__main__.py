"""`python -m evaluate.compare DIR ...`: validation runs side by side, one row per setting."""

from cache.command import launch

if __name__ == "__main__":
    launch("evaluate.compare.cli", "report")
