"""`python -m evaluate.predict CLIP ... --checkpoint FILE`: any video to eight probabilities."""

import sys

from cache.extras import lack

try:
    from evaluate.predict.cli import main
except ModuleNotFoundError as exc:
    print(lack(exc, "features,report"), file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
