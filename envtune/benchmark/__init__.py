"""The benchmark's official code: its checker, its result files, and whether they agree with ours."""

from envtune.data.bfcl import package_dir

package_dir()  # without the benchmark package, the error of this line says how to install it
