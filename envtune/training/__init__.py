"""Chapters 4 and 5: the curriculum, rollouts and GRPO. `train` is the one way in."""
