"""Trains `iris-mlp`, a small torch network, and adds it to a store as an exported program, not as code."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import click

from berth.adding import AddRequest, add_version, next_version
from berth.errors import BerthError
from berth.loaders import LoadOptions
from berth.tensors import TensorSpec

NAME = "iris-mlp"
EPOCHS = 300


def build_network(mean: Any, deviation: Any) -> Any:
    """Four numbers in, three probabilities out; the scaling is part of the program, so that nobody can forget it."""
    import torch

    class Network(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        """A network with one hidden layer."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", mean)
            self.register_buffer("deviation", deviation)
            self.layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

        def forward(self, features: Any) -> Any:
            return torch.softmax(self.layers((features - self.mean) / self.deviation), dim=-1)

    return Network()


def train_network(features: Any, target: Any) -> Any:
    """The network after EPOCHS passes over the data."""
    import torch

    torch.manual_seed(0)
    network = build_network(features.mean(dim=0), features.std(dim=0))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(torch.log(network(features) + 1e-9), target)
        loss.backward()
        optimizer.step()
    return network.eval()


def add_network(store: Path, version: str) -> float:
    """Train, export and add the network; the share of the data that it gets right. Raises OperatorError."""
    import torch
    from sklearn.datasets import load_iris

    iris = load_iris()
    features = torch.tensor(iris.data, dtype=torch.float32)
    target = torch.tensor(iris.target)
    network = train_network(features, target)
    right = float((network(features).argmax(dim=1) == target).float().mean())
    with tempfile.TemporaryDirectory() as folder:
        artifact, rows = Path(folder, "model.pt2"), Path(folder, "sample.csv")
        program = torch.export.export(network, (features[:2],), dynamic_shapes=({0: torch.export.Dim("rows")},))
        torch.export.save(program, artifact)
        with rows.open("w", newline="") as file:
            csv.writer(file).writerows([iris.feature_names, *iris.data.tolist()])
        outputs = (TensorSpec("probabilities", "FP32", (-1, 3)),)
        facts = {"recipe": Path(__file__).name, "accuracy": round(right, 4), "deterministic": True}
        add_version(
            store, artifact, AddRequest(NAME, version, sample=rows, outputs=outputs, metadata=facts), LoadOptions()
        )
    return right


@click.command()
@click.option("--store", type=click.Path(path_type=Path), default=Path("model_store"), show_default=True)
@click.option("--version", help="The version to add [default: the next number].")
def main(store: Path, version: str | None) -> None:
    """Train the network and add it to STORE."""
    version = version or next_version(store, NAME)
    try:
        right = add_network(store, version)
    except BerthError as error:
        raise click.ClickException(error.message) from error
    click.echo(f"{NAME} version {version} added to {store}; accuracy {right:.3f}")


if __name__ == "__main__":
    main()
