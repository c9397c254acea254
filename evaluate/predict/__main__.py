"""`python -m evaluate.predict CLIP ... --checkpoint FILE`: any video to eight probabilities."""

import sys

try:
    from evaluate.predict.cli import main
except ModuleNotFoundError as exc:
    sys.stderr.write(f"error: this needs {exc.name}: pip install '.[features]'\n")
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
