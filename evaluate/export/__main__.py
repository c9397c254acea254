"""`python -m evaluate.export --checkpoint FILE --out FILE.onnx`: a network as one ONNX file."""

from cache.command import launch

if __name__ == "__main__":
    launch("evaluate.export.cli", "export,report")
