"""`python -m evaluate.robustness --runs DIR --cache DIR`: accuracy with parts of clips changed."""

import sys

from cache.extras import lack

try:
    from evaluate.robustness.cli import main
except ModuleNotFoundError as exc:
    print(lack(exc, "report,features"), file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
