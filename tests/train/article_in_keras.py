"""The Keras article's generator, built in Keras 3: ``python article_in_keras.py FOLDER
CHANNELS BLOCKS transpose|nearest`` writes its weights in three formats, a picture and
what becomes of it. Run with KERAS_BACKEND=torch; a program of its own, since a process
keeps to one backend.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from keras import Model, layers, ops


class ReflectionPadding2D(layers.Layer):
    def __init__(self, padding: int, **options: Any) -> None:
        super().__init__(**options)
        self.padding = padding

    def call(self, x: Any) -> Any:
        pad = [self.padding, self.padding]
        return ops.pad(x, [[0, 0], pad, pad, [0, 0]], mode="reflect")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": self.padding}


class Half(layers.Layer):
    def call(self, x: Any) -> Any:
        return x / 2


def block(inputs: Any, channels: int) -> Any:
    x = ReflectionPadding2D(1)(inputs)
    x = layers.Conv2D(channels, 3)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    x = layers.Dropout(0.5)(x)
    x = ReflectionPadding2D(1)(x)
    x = layers.Conv2D(channels, 3)(x)
    x = layers.BatchNormalization()(x)
    return layers.Add()([inputs, x])


def generator(channels: int, blocks: int, upsampling: str) -> Model:
    inputs = layers.Input((None, None, 3))
    x = ReflectionPadding2D(3)(inputs)
    x = layers.Conv2D(channels, 7, padding="valid")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    for more in (2, 4):
        x = layers.Conv2D(more * channels, 3, strides=2, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
    for _ in range(blocks):
        x = block(x, 4 * channels)
    for more in (2, 1):
        if upsampling == "transpose":
            x = layers.Conv2DTranspose(more * channels, 3, strides=2, padding="same")(x)
        else:
            x = layers.UpSampling2D()(x)
            x = layers.Conv2D(more * channels, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
    x = ReflectionPadding2D(3)(x)
    x = layers.Conv2D(3, 7, padding="valid")(x)
    x = layers.Activation("tanh")(x)
    return Model(inputs, Half()(layers.Add()([x, inputs])), name="Generator")


def main(folder: Path, channels: int, blocks: int, upsampling: str) -> None:
    random = np.random.default_rng(5)
    model = generator(channels, blocks, upsampling)
    for weight in model.weights:
        kind = weight.path.rsplit("/", 1)[-1]
        inputs = np.prod(weight.shape) / weight.shape[-1]
        # Such that nine blocks neither drown the picture nor drive the tanh to its ends.
        values = {
            "kernel": random.normal(0, 1 / np.sqrt(inputs), weight.shape),
            "gamma": random.normal(0.7, 0.1, weight.shape),
            "moving_variance": random.uniform(0.3, 1.5, weight.shape),
        }
        weight.assign(values.get(kind, random.normal(0, 0.3, weight.shape)))
    picture = random.uniform(-1, 1, (2, 48, 64, 3)).astype(np.float32)
    np.save(folder / "picture.npy", picture)
    np.save(folder / "made.npy", ops.convert_to_numpy(model(picture, training=False)))
    model.save(folder / "generator.h5")
    model.save(folder / "generator.keras")
    model.save_weights(folder / "generator.weights.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
