"""Train spaCy's text categorizer with thinc's Adam and with fastmom's: one line of config differs.

The texts are docstrings of the programs here, and the category is the package that each is from.
Both pipelines start from the same weights and see the same batches; they take turns at epochs, and
a part of the texts is kept for the score. Needs spaCy.
"""

from __future__ import annotations

import argparse
import ast
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench.results import duration, number, table

PACKAGES = ("asyncio", "numpy", "spacy", "thinc", "unittest")
EACH, BATCH, LONGEST = 400, 32, 400     # texts of a package at most, and characters of a text
KNOWN = (ast.FunctionDef, ast.ClassDef, ast.Module)
MODELS: dict[str, dict[str, Any]] = {
    "bag of words": {"model": {"@architectures": "spacy.TextCatBOW.v3", "length": 262144,
                               "exclusive_classes": True, "ngram_size": 1,
                               "no_output_layer": False}},
    "spaCy's default": {}}
OPTIMIZERS = {"thinc": "Adam.v1", "fastmom": "fastmom.Adam.v1"}


def texts() -> list[tuple[str, str]]:
    """Return pairs of text and package, in an order drawn by lot."""
    rng, found = random.Random(0), []
    for name in PACKAGES:
        folder = Path(str(__import__(name).__file__)).parent
        own = {doc[:LONGEST] for path in sorted(folder.rglob("*.py"))
               for node in ast.walk(ast.parse(path.read_text("utf-8")))
               if isinstance(node, KNOWN) and (doc := ast.get_docstring(node))}
        found += [(doc, name) for doc in rng.sample(sorted(own), min(EACH, len(own)))]
    return rng.sample(found, len(found))


class Training:
    """A pipeline and its optimizer, and what its epochs have shown."""

    def __init__(self, optimizer: str, model: dict[str, Any], data: list[tuple[str, str]]) -> None:
        import spacy
        from spacy.training import Example
        spacy.util.fix_random_seed(0)
        self.nlp = spacy.blank("en")
        self.nlp.add_pipe("textcat", config=model)
        self.examples = [Example.from_dict(self.nlp.make_doc(text), {
            "cats": {p: float(p == package) for p in PACKAGES}}) for text, package in data]
        self.held = self.examples[::5]
        self.seen = [example for i, example in enumerate(self.examples) if i % 5]
        self.nlp.initialize(lambda: self.seen)
        settings = {**self.nlp.config["training"]["optimizer"], "@optimizers": optimizer}
        self.sgd = spacy.registry.resolve({"it": settings})["it"]
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def epoch(self) -> None:
        random.Random(len(self.losses)).shuffle(self.seen)
        losses: dict[str, float] = {}
        start = time.perf_counter()
        for i in range(0, len(self.seen), BATCH):
            self.nlp.update(self.seen[i:i + BATCH], sgd=self.sgd, losses=losses)
        self.seconds.append(time.perf_counter() - start)
        self.losses.append(losses["textcat"])

    def row(self, name: str, base: float) -> list[str]:
        time = statistics.median(self.seconds)
        score = self.nlp.evaluate(self.held)["cats_macro_f"]
        return [name, duration(time), number(base / time), f"{self.losses[0]:.3f}",
                f"{self.losses[-1]:.3f}", f"{score:.3f}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=5)


def run(args: argparse.Namespace) -> int:
    try:
        import fastmom.integrations.thinc  # noqa: F401  (registers)
        data = texts()
    except ModuleNotFoundError as error:
        sys.exit(str(error))
    rows = []
    for title, model in MODELS.items():
        trainings = {who: Training(name, model, data) for who, name in OPTIMIZERS.items()}
        for _ in range(args.epochs):
            for training in trainings.values():
                training.epoch()
        base = statistics.median(trainings["thinc"].seconds)
        rows += [training.row(f"{title}, {who}", base) for who, training in trainings.items()]
    print(f"{len(data)} texts of {len(PACKAGES)} packages, {args.epochs} epochs:\n"
          + table(["", "an epoch", "thinc / it", "loss, first", "last", "F of others"], rows))
    return 0
