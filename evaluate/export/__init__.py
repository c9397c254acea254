"""Export of a trained network as one ONNX file that runs without this project."""
