"""4,000 users of two models, each with a flower and an opinion: what docs/experiments.md tries out.

Usage: simulate_users.py URL

Users like the forest better: they reward one in five of its predictions, and one in ten of the other model's. The
server does not know that; it sees receipts with rewards, as a shop would send them the next day.
"""

from __future__ import annotations

import random
import sys

import httpx
from sklearn.datasets import load_iris

USERS = 4000
CHANCES = {"iris@1": 0.10, "iris-forest@1": 0.20}


def main() -> None:
    """Send each user's request, then what it was worth, a hundred at a time."""
    rng, flowers = random.Random(0), load_iris().data.tolist()  # noqa: S311 - a simulation
    with httpx.Client(base_url=sys.argv[1], timeout=30) as client:
        rewards: list[dict[str, object]] = []
        for user in range(USERS):
            body = {"instances": [flowers[user % len(flowers)]]}
            answer = client.post("/v1/models/flowers:predict", json=body, headers={"X-User-Id": f"user-{user}"})
            answer.raise_for_status()
            liked = rng.random() < CHANCES[answer.headers["X-Berth-Arm"]]
            rewards.append({"receipt": answer.headers["X-Berth-Receipt"], "reward": int(liked)})
        for start in range(0, USERS, 100):
            client.post("/feedback", json=rewards[start : start + 100]).raise_for_status()
    sys.stdout.write(f"{USERS} users, {sum(int(str(item['reward'])) for item in rewards)} rewards\n")


if __name__ == "__main__":
    main()
