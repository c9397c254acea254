"""A trained network as one ONNX file that stands alone."""
