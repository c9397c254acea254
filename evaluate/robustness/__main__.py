"""`python -m evaluate.robustness --runs DIR --cache DIR`: accuracy with parts of clips changed."""

import sys

try:
    from evaluate.robustness.cli import main
except ModuleNotFoundError as exc:
    sys.stderr.write(f"error: this needs {exc.name}: pip install '.[report]'\n")
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
