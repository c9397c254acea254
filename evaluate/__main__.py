"""`python -m evaluate --runs DIR --out DIR [--cache DIR]`: runs to report.html and summary.json."""

import sys

try:
    from evaluate.cli import main
except ModuleNotFoundError as exc:
    sys.stderr.write(f"error: this needs {exc.name}: pip install '.[report]'\n")
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
