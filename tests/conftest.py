"""How the tests run: strict JAX, eight CPU devices, and every annotation of the package checked.

JAX is set up through the environment, before anything imports it: tests of the host rooms never pay for that
import, and a command that a test starts as a process of its own runs under the same rules.
"""

import os
from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
)
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand where a float is asked for
install_import_hook("siamese_jax", "tests.conftest.typechecked")
