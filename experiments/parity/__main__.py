"""Do our networks compute what the published ones do? Each is given its PyTorch twin's weights, and the same windows.

    make parity

In inference, with batch statistics that are not trivial, outputs must be equal but for rounding, and the numbers of
parameters must be the same. PyTorch and timm live in an environment of their own, .venv-parity: nothing else needs
them.
"""

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.parity import names, theirs
from siamese_jax.config.experiment import Config, ModelConfig
from siamese_jax.models.build import build_model
from siamese_jax.pipeline import Variables
from siamese_jax.vocabulary import IED, SLEEP

LARGEST_DIFFERENCE = 1e-4
"""Between outputs, in standard deviations of theirs: what is next to nothing everywhere is not equal for that."""
N_WINDOWS = 4
MAPS, SERIES = (129, 126, 45), (1, 512, 19)
"""Published inputs: maps of 45 rows, 4 s at 500 Hz; 19 rows as they are, 4 s at 128 Hz."""

Size = tuple[int, int, int]
Maps = Float[np.ndarray, "batch freq frame row"]


class Comparison(NamedTuple):
    """A line of the table.

    Attributes:
        what: network or stage.
        size: of what goes into a network or comes out of a stage.
        parameters: theirs and ours, or none.
        spread: standard deviation of their output.
        difference: the largest between the outputs.
    """

    what: str
    size: tuple[int, ...]
    parameters: tuple[int, ...]
    spread: float
    difference: float

    @property
    def equal(self) -> bool:
        """As many parameters, and the same outputs."""
        return self.difference <= LARGEST_DIFFERENCE * self.spread and len(set(self.parameters)) <= 1

    def text(self) -> str:
        """As the table shows it."""
        counts = [f"{n:,}" for n in self.parameters] or ["", ""]
        size = " x ".join(map(str, self.size))
        numbers = (f"{self.spread:.3f}", f"{self.difference:.1e}")
        return _line(self.what, size, *counts, *numbers, "equal" if self.equal else "DIFFERENT")


def compare(name: str, net: Any, ours: names.Names, size: Size) -> Comparison:
    """A network of theirs and ours, from windows to logits."""
    x = windows(size)
    theirs.settle(net, x)
    expected = theirs.output(net, x)
    variables = names.copied(ours, theirs.arrays(net), shapes(name, size))
    found = run(name, variables, x)[0].window["ied"]
    counts = theirs.n_parameters(net), sum(p.size for p in jax.tree.leaves(variables["params"]))
    return Comparison(name, size, counts, float(expected.std()), _largest(found, expected))


def compare_stages(rw_t: Any) -> Iterable[Comparison]:
    """All stages of Siamese-ES of size `paper`, where both branches have the weights of one `efficientnetv2_rw_t`."""
    variables = shapes("siamese_es", MAPS)
    heads = {layer: p for layer, p in variables["params"].items() if layer.startswith("head")}
    rest = variables | {"params": {layer: p for layer, p in variables["params"].items() if layer not in heads}}
    arrays = {name: x for name, x in theirs.arrays(rw_t).items() if not name.startswith("classifier")}
    variables = names.copied(names.siamese_es(), arrays, rest)
    variables["params"] |= jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), heads)
    x = windows(MAPS)
    expected = theirs.stages(rw_t, x)
    _, seen = run("siamese_es", variables, x)
    layers = [*names.SHARED, *names.ELECTRON, *names.SLEEP]
    for layer, maps in zip(layers, [*expected, *expected[len(names.SHARED) :]], strict=True):
        found = seen["intermediates"][layer]["__call__"][0]
        yield Comparison(layer, maps.shape[1:], (), float(maps.std()), _largest(found, maps))


def shapes(name: str, size: Size) -> Variables:
    """Of our variables, before there are any."""
    x, present = jax.ShapeDtypeStruct((1, *size), jnp.float32), jax.ShapeDtypeStruct((1, size[-1]), jnp.bool_)
    return jax.eval_shape(model(name).init, jax.random.key(0), x, present)


def run(name: str, variables: Variables, x: Maps) -> Any:
    """What our network says of windows without an absent row, and what its layers hand on."""
    present = jnp.ones((len(x), x.shape[-1]), bool)
    apply = jax.jit(lambda v, x: model(name).apply(v, x, present, capture_intermediates=_is_layer))
    return apply(variables, x)


def model(name: str) -> Any:
    """Our network as published, whatever makes its maps."""
    if name == "siamese_es":
        return build_model(Config(model=ModelConfig(size="paper", shared_stages=4, pooling="average")), (IED, SLEEP))
    return build_model(Config(("ied",), model=ModelConfig(name, fusion="none", pooling="average")), (IED,))  # pyright: ignore[reportArgumentType]


def windows(size: Size) -> Maps:
    """Random magnitudes as maps, random samples as rows; each window has loud and quiet rows, and moments."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N_WINDOWS, *size))
    for each in ((1, 1, size[2]), (1, size[1], 1), (size[0], 1, 1)):
        x *= np.exp(0.5 * rng.normal(size=(N_WINDOWS, *each)))
    return (x if size[0] == 1 else np.abs(x)).astype(np.float32)


def main() -> int:
    """Print the tables; 1 if anything differs."""
    print(f"{theirs.VERSIONS}, JAX {jax.__version__}; {N_WINDOWS} random windows, float32, CPU\n")
    theirs.torch.manual_seed(0)
    rw_t = theirs.nepinet(MAPS[-1])
    found = []
    print(_line("network", "input", "theirs", "ours", "spread", "difference", ""))
    for name, net, ours, size in (
        ("nepinet", rw_t, names.nepinet(), MAPS),
        ("vgg16", theirs.vgg16(MAPS[-1]), names.vgg16(), MAPS),
        ("aied", theirs.aied(MAPS[-1]), names.aied(), MAPS),
        ("eegnet", theirs.eegnet(SERIES[-1], SERIES[1]), names.eegnet(), SERIES),
    ):
        found.append(compare(name, net, ours, size))
        print(found[-1].text(), flush=True)
    print("\n" + _line("stage of siamese_es", "output", "", "", "spread", "difference", ""))
    for comparison in compare_stages(rw_t):
        found.append(comparison)
        print(comparison.text())
    wrong = [c.what for c in found if not c.equal]
    print(f"\n{len(found) - len(wrong)} of {len(found)} equal: same parameters, difference at most")
    print(f"{LARGEST_DIFFERENCE:g} of the spread" + (f"; not {', '.join(wrong)}" if wrong else ""))
    return 1 if wrong else 0


def _line(what: str, size: str, *numbers: str) -> str:
    *columns, verdict = numbers
    return f"{what:<21}{size:<17}" + "".join(f"{column:>12}" for column in columns) + f"  {verdict}"


def _largest(found: Any, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(found) - expected).max())


def _is_layer(module: Any, _: str) -> bool:
    return len(module.path) == 1


if __name__ == "__main__":
    sys.exit(main())
