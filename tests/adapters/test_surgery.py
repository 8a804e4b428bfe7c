"""Adapters build core modules through arguments: none changes a built one, and the core checks for no class."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sdi_plugin
from sdi_plugin import SDISkip, UNetV2Decoder

ROOT = Path(__file__).parents[2]
CORE = sorted(Path(sdi_plugin.__file__).parent.rglob("*.py"))
ADAPTERS = sorted((ROOT / "adapters").rglob("*.py"))

# Not part of a core module, although the name or the call looks like one.
ALLOWED = {
    ("smp/with_sdi.py", "model.sdi"),  # a new child of smp's own model
    ("mmsegmentation/backbone.py", "nn.init.uniform_"),  # on timm's patch embedding
}


def core_names() -> set[str]:
    """Names of the children, parameters, buffers and public attributes of the core's modules."""
    names: set[str] = set()
    for built in (SDISkip([4, 8], 4, [4, 8], fusion="asinh"), UNetV2Decoder([4, 8], 4, norm="batch")):
        for module in built.modules():
            names |= {name for name in vars(module) if not name.startswith("_")}
            names |= {*dict(module.named_children()), *dict(module.named_parameters()), *dict(module.named_buffers())}
    return {name for name in names if name.isidentifier()} - {"training"}


NAMES = core_names()


def attributes(expression: ast.expr) -> list[str]:
    """The attributes of a target, outermost first: ["sdi", "skip"] of decoder.skip.sdi[0]."""
    found = []
    while isinstance(expression, ast.Attribute | ast.Subscript):
        if isinstance(expression, ast.Attribute):
            found.append(expression.attr)
        expression = expression.value
    return found


def targets(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Assign | ast.Delete):
        yield from node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        yield node.target
    elif isinstance(node, ast.Tuple | ast.List) and isinstance(node.ctx, ast.Store | ast.Del):
        yield from node.elts


def operations(source: str) -> list[str]:
    """Assignments to what a core module holds, and calls that could hide one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for target in targets(node):
            own = isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
            if not own and NAMES & {*attributes(target)}:
                found.append(ast.unparse(target))
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if "nn.init." in called or called.rpartition(".")[2] in (
                "setattr",
                "delattr",
                "add_module",
                "set_submodule",
            ):
                found.append(called)
    return found


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: path.relative_to(ROOT / "adapters").as_posix())
def test_no_adapter_operates_on_a_core_module(path):
    name = path.relative_to(ROOT / "adapters").as_posix()
    assert [found for found in operations(path.read_text()) if (name, found) not in ALLOWED] == []


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_does_not_ask_whether_a_level_has_an_sdi(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
            assert not asked & {"SDI", "SDISkip", "AttentiveReduction"}, ast.unparse(node)


@pytest.mark.parametrize(
    "line",
    [
        "reduction.bn = norm(channels)",
        "decoder.skip.anything = nn.Identity()",
        "self.sdi[level], self.projections[level] = nn.Identity(), nn.Identity()",
        "del self.decoder.skip.sdi[0]",
        "setattr(decoder, 'ups', None)",
        "self.decoder.add_module('heads', heads)",
        "nn.init.ones_(conv.bias)",
        "conv.weight.data *= 2",
    ],
)
def test_an_operation_would_be_found(line):
    assert operations(line) != []


def test_what_is_allowed_is_there():
    for name, found in ALLOWED:
        assert found in operations((ROOT / "adapters" / name).read_text())
