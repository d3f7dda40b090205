"""What is changed in a module to make a mutant: one thing at a time, by its syntax tree."""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
COMPARISONS = {  # the boundary moved, and the other side
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
RENAMED = {"mean": "sum", "sum": "mean", "max": "min", "min": "max", "amax": "amin"}
RENAMED |= {"amin": "amax", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}
RENAMED |= {"maximum": "minimum", "minimum": "maximum", "cos": "sin", "sin": "cos"}
RENAMED |= {"nansum": "nanmean", "nanmean": "nansum"}
DROPPED = {"sqrt", "abs", "square", "clamp", "clip", "log", "exp", "sort", "double", "round"}
NUMBERS = {"float", "int", "Tensor", "Array", "np.ndarray", "Integers"}


@dataclass(frozen=True)
class Mutant:
    """One change of a module: where, what stood there, and what stands there now."""

    line: int
    before: str
    after: str
    place: int
    choice: int
    inside: bool  # a function's body

    def tree(self, source: str) -> ast.Module:
        """The module with the change."""
        whole = ast.parse(source)
        node, put = list(_places(whole))[self.place]
        new = list(_changes(node))[self.choice]
        put(ast.copy_location(new, node))
        return ast.fix_missing_locations(whole)


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module's source, in the order of its lines."""
    found = []
    whole = ast.parse(source)
    bodies = {id(each) for each in _of_bodies(whole)}
    for place, (node, _) in enumerate(_places(whole)):
        before = ast.unparse(getattr(node, "value", node) if isinstance(node, _Whole) else node)
        inside = id(node.value if isinstance(node, _Whole) else node) in bodies
        for choice, new in enumerate(_changes(node)):
            found.append(Mutant(node.lineno, before, ast.unparse(new), place, choice, inside))
    return sorted(found, key=lambda each: each.line)


def _of_bodies(tree: ast.AST) -> Iterator[ast.AST]:
    """All that is run when a function is called, and not when it is made."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for statement in function.body:
                yield from ast.walk(statement)


def _places(tree: ast.AST, returns: str = "") -> Iterator[tuple[ast.AST, Callable]]:
    """Each expression, test and returned number that may be changed, and what puts a new one there.

    Args: returns: what the function around it says that it returns.
    """
    if isinstance(tree, ast.FunctionDef):
        returns = "" if tree.returns is None else ast.unparse(tree.returns)
    if isinstance(tree, ast.If) and not isinstance(tree.test, ast.Compare | ast.UnaryOp):
        yield Test(tree.test), partial(setattr, tree, "test")
    if isinstance(tree, ast.Return) and returns in NUMBERS and tree.value is not None:
        yield Returned(tree.value), partial(setattr, tree, "value")
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        several = isinstance(value, list)
        for at, child in enumerate(value if several else [value]):
            if not isinstance(child, ast.AST) or _told(child):
                continue
            if isinstance(child, ast.expr):
                put = partial(value.__setitem__, at) if several else partial(setattr, tree, name)
                yield child, put
            yield from _places(child, returns)


class _Whole(ast.expr):
    """An expression as a whole, where also its parts are changed."""

    def __init__(self, value: ast.expr) -> None:
        super().__init__(value=value)
        ast.copy_location(self, value)


class Test(_Whole):
    """What an `if` looks at."""


class Returned(_Whole):
    """A number that a function returns."""


def _told(node: ast.AST) -> bool:
    """What is read by people, not computed with."""
    if isinstance(node, ast.Assign):
        return any(isinstance(each, ast.Name) and each.id == "__all__" for each in node.targets)
    return isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert | ast.Import | ast.ImportFrom)


def _changes(node: ast.expr) -> Iterator[ast.expr]:
    """What an expression is changed to."""
    if isinstance(node, Test):
        yield ast.UnaryOp(ast.Not(), node.value)
    elif isinstance(node, Returned):
        yield ast.UnaryOp(ast.USub(), node.value)
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        for op in COMPARISONS[type(node.ops[0])]:
            yield ast.Compare(node.left, [op(), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other, node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)


def _constants(value: object) -> Iterator[ast.expr]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1)
    elif isinstance(value, float):
        yield ast.Constant(2 * value if value else 0.5)


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    """Of `x.sqrt()` and `np.sqrt(x)`: x; of `mean`, `sum`; and so on."""
    name = node.func
    word = name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")
    if word in RENAMED:
        func = copy.deepcopy(name)
        if isinstance(func, ast.Attribute):
            func.attr = RENAMED[word]
        else:
            func.id = RENAMED[word]
        yield ast.Call(func, node.args, node.keywords)
    elif word in DROPPED:
        of_module = isinstance(name, ast.Name) or (
            isinstance(name.value, ast.Name) and name.value.id in ("np", "torch", "math")
        )
        if of_module and node.args:
            yield node.args[0]
        elif not of_module:
            yield name.value
