"""Train a classifier on scikit-learn's handwritten digits, show how it gets better, and keep it.

By hand, without a server, it runs as well: python train.py

The model is plain numbers, which nobody has to unpickle: model/model.npz holds coefs_0, intercepts_0, coefs_1, ... of a
multilayer perceptron (ReLU between layers, softmax at the end) whose input is 64 pixels from 0 to 1; model/card.json
says what it is.
"""

import json
import os
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import nexus

EPOCHS = int(os.environ.get("EPOCHS", "20"))
SEED = int(os.environ.get("SEED", "0"))
HIDDEN = (64,)


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images / 16.0, labels, test_size=0.25, random_state=SEED, stratify=labels)
    train_images, test_images, train_labels, test_labels = split
    print(f"{len(train_images)} digits to learn from, {len(test_images)} to be tested on", flush=True)
    nexus.param({"epochs": EPOCHS, "seed": SEED, "hidden": list(HIDDEN)})

    model = MLPClassifier(HIDDEN, learning_rate_init=0.005, batch_size=32, random_state=SEED)
    accuracy = loss = 0.0
    for epoch in range(1, EPOCHS + 1):
        model.partial_fit(train_images, train_labels, classes=np.arange(10))
        accuracy = float(model.score(test_images, test_labels))
        loss = float(log_loss(test_labels, model.predict_proba(test_images)))
        nexus.log({"accuracy": accuracy, "loss": loss, "train_loss": float(model.loss_)}, step=epoch)
        print(f"epoch {epoch:3d}/{EPOCHS}   loss {loss:.4f}   accuracy {accuracy:.4f}", flush=True)

    folder = save(model, {"accuracy": round(accuracy, 4), "loss": round(loss, 4), "epochs": EPOCHS, "seed": SEED})
    nexus.artifact("digits", folder, kind="model", meta={"accuracy": f"{accuracy:.4f}"})
    print(f"kept the model: {accuracy:.1%} of {len(test_images)} unseen digits are read right")


def save(model: MLPClassifier, facts: dict) -> Path:
    folder = Path(os.environ.get("NEXUS_OUTPUTS", "outputs")) / "model"
    folder.mkdir(parents=True, exist_ok=True)
    layers = {f"coefs_{index}": weights for index, weights in enumerate(model.coefs_)}
    layers |= {f"intercepts_{index}": bias for index, bias in enumerate(model.intercepts_)}
    np.savez(folder / "model.npz", **{name: array.astype(np.float32) for name, array in layers.items()})
    card = {
        "format": "mlp",
        "input": "64 pixels, 0 to 1",
        "classes": list(range(10)),
        "data": "sklearn digits",
        **facts,
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    return folder


if __name__ == "__main__":
    main()
