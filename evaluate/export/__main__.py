"""`python -m evaluate.export --checkpoint FILE --out FILE.onnx`: a network that stands alone."""

import sys

from cache.extras import lack

try:
    from evaluate.export.cli import main
except ModuleNotFoundError as exc:
    print(lack(exc, "export,report"), file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
