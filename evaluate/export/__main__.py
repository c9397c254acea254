"""`python -m evaluate.export --checkpoint FILE --out FILE.onnx`: a network that stands alone."""

import sys

try:
    from evaluate.export.cli import main
except ModuleNotFoundError as exc:
    sys.stderr.write(f"error: this needs {exc.name}: pip install '.[export,report]'\n")
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
