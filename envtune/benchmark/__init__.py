"""The benchmark's official code: its checker, its result files, and whether they agree with ours."""
