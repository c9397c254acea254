"""`python -m evaluate --runs DIR --out DIR [--cache DIR]`: runs to report.html and summary.json."""

import sys

from cache.extras import lack

try:
    from evaluate.cli import main
except ModuleNotFoundError as exc:
    print(lack(exc, "report"), file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
