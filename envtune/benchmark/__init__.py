"""The official code beside ours: its checker, its result files, and whether the two agree."""
