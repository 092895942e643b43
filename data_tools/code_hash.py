"""Which version of some code made a result. Standard library only."""

import ast
import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def code_hash(*places: str, root: Path = ROOT) -> str:
    """Hash of the syntax trees of some modules without docstrings and comments, with their paths.

    A changed comment, docstring or line break leaves it as it is; a changed constant or name changes it.

    Args:
        places: modules, or folders of which all modules count, as paths below `root`.
        root: folder that holds `siamese_jax`, `data_tools` and `experiments`.

    Raises:
        ValueError: a place where no module is: what it stood for must not be left out silently.
    """
    modules: set[Path] = set()
    for place in places:
        path = root / place
        found = set(path.rglob("*.py")) if path.is_dir() else {path} & set(path.parent.glob("*.py"))
        if not found:
            raise ValueError(f"{path} is no Python module and no folder with one")
        modules |= found
    digest = hashlib.sha256()
    for path in sorted(modules):
        tree = _WithoutTexts().visit(ast.parse(path.read_bytes()))
        digest.update(f"{path.relative_to(root).as_posix()}\0{ast.dump(tree)}\0".encode())
    return digest.hexdigest()


class _WithoutTexts(ast.NodeTransformer):
    """Leaves out each statement that is a text alone: docstrings of modules, classes, functions and constants."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """The statement, or None."""
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node
