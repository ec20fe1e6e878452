"""Trains `iris-mlp`, a small torch network, and adds it to a store as an exported program, not as code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from berth.tensors.arrays import TensorSpec
from recipe import Trained, make_command, write_sample

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


def train(folder: Path) -> Trained:
    """The network as an exported program, and the share of the data that it gets right."""
    import torch
    from sklearn.datasets import load_iris

    iris = load_iris()
    features = torch.tensor(iris.data, dtype=torch.float32)
    target = torch.tensor(iris.target)
    network = train_network(features, target)
    right = float((network(features).argmax(dim=1) == target).float().mean())
    artifact, sample = folder / "model.pt2", folder / "sample.csv"
    program = torch.export.export(network, (features[:2],), dynamic_shapes=({0: torch.export.Dim("rows")},))
    torch.export.save(program, artifact)
    write_sample(sample, iris.feature_names, iris.data.tolist())
    facts = {"accuracy": round(right, 4), "deterministic": True}
    return Trained(artifact, sample, facts, outputs=(TensorSpec("probabilities", "FP32", (-1, 3)),))


main = make_command(__file__, {"iris-mlp": train})

if __name__ == "__main__":
    main()
