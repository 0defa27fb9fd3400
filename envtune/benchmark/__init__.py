"""The official code beside ours: its checker, its result files, and whether the two agree."""

from envtune.data.bfcl import package_dir

package_dir()  # without the benchmark package, the error of this line says how to install it
