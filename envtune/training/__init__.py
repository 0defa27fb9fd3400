"""Chapters 4 and 5: the curriculum, rollouts and GRPO. `train` is the one way in."""

import logging

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # loaded by peft, it asks for a package that nobody needs
