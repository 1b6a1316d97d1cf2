"""Names that users of Keras and PyTorch look for, and what they are called here."""

from __future__ import annotations

from collections.abc import Collection

LAYERS = {
    "Linear": "Dense(units)", "ReLU": "Activation('relu')", "Sigmoid": "Activation('sigmoid')",
    "Tanh": "Activation('tanh')", "Softmax": "Activation('softmax')", "GELU": "Activation('gelu')",
    "BatchNorm1d": "BatchNorm()", "InputLayer": "Input(shape)", "Model": "Sequential",
    "Module": "Sequential", "CrossEntropyLoss": "SparseCategoricalCrossentropy(from_logits=True)",
    "BCELoss": "BinaryCrossentropy()", "MSELoss": "MeanSquaredError()",
    "BCEWithLogitsLoss": "BinaryCrossentropy(from_logits=True)", "L1Loss": "MeanAbsoluteError()",
    "load_model": "Sequential.load(path)", "TensorBoard": "CSVLogger or JSONLogger",
    "HuberLoss": "Huber()", "one_hot": "to_categorical",
}
# Submodules of Keras, whose content is in fastmom.nn itself
FLAT = ("models", "regularizers", "backend", "utils", "functional")
ABSENT = ("Conv1D", "Conv2D", "Conv3D", "MaxPooling2D", "LSTM", "GRU", "SimpleRNN", "Embedding",
          "LayerNormalization", "MultiHeadAttention", "Concatenate", "Add", "Conv2d", "LayerNorm")


def hint(name: str, known: Collection[str]) -> str:
    """Return the end of an error's text: what to use instead."""
    from fastmom.optim import OPTIMIZERS
    optimizers = {kind.__name__.lower(): kind.__name__ for kind in OPTIMIZERS.values()}
    if name.lower() in optimizers:
        return f": optimizers are fastmom.{optimizers[name.lower()]} and the like"
    if name in ("optimizers", "optim"):
        return ": optimizers are fastmom.SGD, fastmom.Adam and the like"
    if name in LAYERS:
        return f": here it is {LAYERS[name]}"
    if name in FLAT:
        return ": its content, as far as there is any, is in fastmom.nn itself"
    if name in ABSENT:
        return ": there is none; fastmom.nn has dense networks, and layers of your own (nn.Layer)"
    import difflib  # only now, for an error
    close = difflib.get_close_matches(name, known, 1)
    return f": did you mean {close[0]!r}?" if close else ""
