"""Serve the digits model that examples/digits trains: 64 pixels in, a digit and its probability out."""

from pathlib import Path

import numpy as np


class Digits:
    """A multilayer perceptron, read from an .npz file: coefs_0, intercepts_0, coefs_1, ..."""

    def __init__(self, model_dir: str) -> None:
        path = Path(model_dir)
        file = path if path.is_file() else next(path.glob("**/*.npz"))
        with np.load(file, allow_pickle=False) as saved:
            count = sum(name.startswith("coefs_") for name in saved.files)
            self.layers = [(saved[f"coefs_{i}"], saved[f"intercepts_{i}"]) for i in range(count)]

    def predict_batch(self, requests: list) -> list:
        """Each request is one image, {"pixels": [64 numbers from 0 to 16]}; they are answered in one pass."""
        images = np.array([self.pixels(request) for request in requests], dtype=np.float64) / 16.0
        values = images
        for index, (weights, bias) in enumerate(self.layers):
            values = values @ weights + bias
            if index + 1 < len(self.layers):
                values = np.maximum(values, 0.0)
        odds = np.exp(values - values.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        return [{"digit": int(row.argmax()), "probability": round(float(row.max()), 4)} for row in odds]

    @staticmethod
    def pixels(request: object) -> list:
        """The image of a request; what raises ValueError is answered with status 400."""
        pixels = request.get("pixels") if isinstance(request, dict) else request
        if not isinstance(pixels, list) or len(pixels) != 64:
            raise ValueError('send {"pixels": [...]} with 64 numbers from 0 to 16')
        return pixels
