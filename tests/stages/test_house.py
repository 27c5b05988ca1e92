"""Nothing outside `stages/` knows a kind of stage by name."""

from __future__ import annotations

import ast
from pathlib import Path

import stormcast_train
from stormcast_train.stages.stage import SEQUENCES, STAGES

PACKAGE = Path(stormcast_train.__file__).parent
NAMES = {*STAGES, *SEQUENCES}
STEPS = {"RegressionStep", "ResidualStep", "DrawnStep", "Regression", "ResidualDiffusion", "OneStepCrps"}


def branches(tree: ast.AST) -> list[int]:
    """Lines that compare with a kind's name, look one up, match it, or ask whether something is its class."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            words = [part for side in (node.left, *node.comparators) for part in ast.walk(side)]
            found += [node.lineno for part in words if isinstance(part, ast.Constant) and part.value in NAMES]
        elif isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant):
            found += [node.lineno] if node.value.value in NAMES else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            found += [
                node.lineno for part in ast.walk(node) if isinstance(part, ast.Name) and part.id in STEPS
            ]
    return found


def test_the_search_finds_every_way_to_branch():
    text = (
        'kind == "diffusion"\nkind in ("both", "x")\nisinstance(step, (int, ResidualStep))\nkind == "other"\n'
    )
    text += 'match kind:\n    case "crps":\n        pass\n'
    assert branches(ast.parse(text)) == [1, 2, 3, 6]


def test_no_file_branches_on_a_kind_of_stage():
    files = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "stages"]
    assert len(files) > 250
    found = {str(path): lines for path in files if (lines := branches(ast.parse(path.read_text())))}
    assert found == {}
