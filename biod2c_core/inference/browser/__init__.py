"""A model as a folder that answers in a browser: its parts as ONNX, and a page that runs them."""
