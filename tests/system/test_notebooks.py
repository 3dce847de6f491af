"""Notebooks are kept without what running them leaves, and ask and answer one question each."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.rglob("*.ipynb"))


def left_by_running(*files):
    """Return what the hook of pre-commit says of the files."""
    command = [sys.executable, "-m", "nbstripout", "--verify", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True).stdout


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def nbformat():
    """Return the library, which other workers need not wait for."""
    return importlib.import_module("nbformat")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request, nbformat):
    return nbformat.read(request.param, as_version=4)


def test_all_four_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["1_data", "2_encoders", "3_search", "4_results"]


def test_notebooks_hold_no_outputs():
    assert not left_by_running(*NOTEBOOKS), "run: .venv/bin/nbstripout notebooks/*.ipynb"


def test_outputs_counts_and_times_would_be_found(tmp_path, nbformat):
    counted, shown, timed = (nbformat.read(NOTEBOOKS[0], as_version=4) for _ in range(3))
    code_cells(counted)[0].execution_count = 1
    code_cells(shown)[-1].outputs = [nbformat.v4.new_output("stream", text="seen")]
    code_cells(timed)[0].metadata["execution"] = {"iopub.status.busy": "2026-01-01"}
    files = [tmp_path / f"{number}.ipynb" for number in range(3)]
    for file, changed in zip(files, (counted, shown, timed), strict=True):
        nbformat.write(changed, file)
    found = left_by_running(*files)
    assert all(str(file) in found for file in files)


def test_a_notebook_is_valid(notebook, nbformat):
    nbformat.validate(notebook)


def test_a_notebook_opens_with_its_question_and_closes_with_its_limits(notebook):
    first, last = notebook.cells[0], notebook.cells[-1]
    assert first.cell_type == last.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert first.source.splitlines()[0].endswith("?")
    assert last.source.startswith("## What this says, and what not")


def test_a_notebook_defines_nothing_that_would_need_a_test(notebook):
    tree = ast.parse("\n".join(cell.source for cell in code_cells(notebook)))
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert not [node.name for node in ast.walk(tree) if isinstance(node, defined)]


def test_a_notebook_imports_what_there_is(notebook):
    tree = ast.parse("\n".join(cell.source for cell in code_cells(notebook)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("tireid"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), node.module
