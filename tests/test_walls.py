"""The walls between the shipped package, the training code and the bridge hold."""

from __future__ import annotations

import ast
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import edgeae
from edgeae import errors

ROOT = Path(__file__).resolve().parent.parent


def sources(folder):
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"no Python files in {folder}"
    return found


def imported(file):
    """The top-level names of the modules that a file imports anywhere, in functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.module.split(".")[0]
            elif node.level > len(file.relative_to(ROOT).parts) - 1:
                yield "<outside the package>"
        elif isinstance(node, ast.Call) and node.args:
            # importlib.import_module("name") and __import__("name")
            callee = node.func
            name = callee.attr if isinstance(callee, ast.Attribute) else getattr(callee, "id", "")
            target = node.args[0]
            if name in {"import_module", "__import__"} and isinstance(target, ast.Constant):
                yield target.value.split(".")[0]


# The search stands above training and export, and nothing of theirs may know it.
ABOVE = ROOT / "train" / "search"


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("edgeae", {"torch", "onnx", "onnxscript", "train", "export", "benchmarks", "tests"}),
        ("train", {"onnx", "onnxscript", "onnxruntime", "edgeae", "export", "benchmarks"}),
        ("export", {"benchmarks", "tests"}),
    ],
)
def test_a_folder_imports_nothing_from_behind_its_wall(folder, forbidden):
    broken = {
        str(file.relative_to(ROOT)): sorted(names)
        for file in sources(folder)
        if not file.is_relative_to(ABOVE)
        if (
            names := forbidden & set(imported(file))
            | {"<outside the package>"} & set(imported(file))
        )
    }
    assert broken == {}


def test_nothing_below_the_search_knows_it():
    below = [file for folder in ("edgeae", "train", "export") for file in sources(folder)]
    knowing = [
        file.name
        for file in below
        if not file.is_relative_to(ABOVE)
        and any(name.startswith("train.search") for name in modules_imported(file))
    ]
    assert knowing == []


def test_only_runtime_names_onnxruntime():
    naming = [file.name for file in sources("edgeae") if "onnxruntime" in set(imported(file))]
    assert naming == ["runtime.py"]


def modules_imported(file):
    """The full names of the modules of the package that a file imports anywhere."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield node.module
            # A name may be a module itself: `from edgeae.coding import entropy`.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# What a room of the package may not import. Whoever adds a room says here what it may not know.
LOW = (
    "edgeae.image",
    "edgeae.signal",
    "edgeae.media",
    "edgeae.cli",
    "edgeae.bench",
    "edgeae.batch",
    "edgeae.link",
)
ROOMS = {
    "edgeae/errors.py": ("edgeae.",),
    "edgeae/exclusive.py": ("edgeae.",),
    "edgeae/onnx_check.py": (*LOW, "edgeae.coding", "edgeae.runtime", "edgeae.bundle"),
    "edgeae/bundle.py": (*LOW, "edgeae.coding", "edgeae.runtime"),
    "edgeae/runtime.py": (*LOW, "edgeae.coding"),
    "edgeae/providers.py": (*LOW, "edgeae.coding", "edgeae.runtime"),
    "edgeae/plugins.py": (*LOW, "edgeae.coding", "edgeae.runtime", "edgeae.bundle"),
    "edgeae/autoencoder.py": (*LOW, "edgeae.loading"),
    "edgeae/autoencoder_bundle.py": (*LOW, "edgeae.loading"),
    "edgeae/transformer.py": (*LOW, "edgeae.loading"),
    "edgeae/window_stream.py": (*LOW, "edgeae.loading"),
    "edgeae/detection.py": (*LOW, "edgeae.loading"),
    "edgeae/detector.py": (*LOW, "edgeae.loading"),
    "edgeae/inspection.py": LOW,
    "edgeae/opening.py": (*LOW, "edgeae.coding", "edgeae.loading"),
    # Beats of a heart are found where signals are at home.
    "edgeae/scoring.py": (*(room for room in LOW if room != "edgeae.signal"), "edgeae.loading"),
    "edgeae/onnx_wire.py": (*LOW, "edgeae.coding", "edgeae.runtime", "edgeae.bundle"),
    "edgeae/onnx_types.py": (*LOW, "edgeae.coding", "edgeae.runtime", "edgeae.bundle"),
    "edgeae/onnx_sizes.py": (*LOW, "edgeae.coding", "edgeae.runtime", "edgeae.bundle"),
    "edgeae/metrics.py": (*LOW, "edgeae.coding", "edgeae.runtime"),
    "edgeae/coding": LOW,
    "edgeae/image": tuple(room for room in LOW if room != "edgeae.image"),
    "edgeae/signal": tuple(room for room in LOW if room != "edgeae.signal"),
    "edgeae/media": tuple(
        room
        for room in (*LOW, "edgeae.coding", "edgeae.runtime", "edgeae.bundle")
        if room != "edgeae.media"
    ),
    "edgeae/bench": ("edgeae.cli", "edgeae.batch"),
    "edgeae/link": ("edgeae.cli", "edgeae.bench", "edgeae.batch"),
    "edgeae/ray.py": ("edgeae.cli", "edgeae.bench", "edgeae.link", "edgeae.batch"),
    "edgeae/telemetry.py": LOW,
    "edgeae/batch.py": (
        "edgeae.cli",
        "edgeae.bench",
        "edgeae.image",
        "edgeae.signal",
        "edgeae.link",
    ),
}


def test_every_room_says_what_it_may_not_know():
    # These open the doors to all rooms, or are above them.
    above = {"edgeae/__init__.py", "edgeae/__main__.py", "edgeae/loading.py", "edgeae/cli"}
    there = {
        str(path.relative_to(ROOT)).replace(os.sep, "/")
        for path in (ROOT / "edgeae").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert there == above | set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_no_import_of_a_room_runs_upward(room):
    place = ROOT / room
    files = sources(room) if place.is_dir() else [place]
    wrong = {
        str(file.relative_to(ROOT)): sorted(
            name for name in set(modules_imported(file)) if f"{name}.".startswith(ROOMS[room])
        )
        for file in files
    }
    assert {file: names for file, names in wrong.items() if names} == {}


def test_the_package_imports_exactly_what_it_declares():
    names = {"Pillow": "PIL", "paho-mqtt": "paho", "opentelemetry-api": "opentelemetry"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = {
        re.split(r"[<>=\[; ]", line)[0]
        for extra in ("cpu", "heic", "parquet", "wfdb", "ray", "mqtt", "otel")
        for line in project["optional-dependencies"].get(extra, [])
    }
    declared = {re.split(r"[<>=\[; ]", line)[0] for line in project["dependencies"]}
    used = {name for file in sources("edgeae") for name in imported(file)}
    used -= {*sys.stdlib_module_names, "edgeae"}
    assert {names.get(name, name) for name in declared} <= used
    allowed = {names.get(name, name).replace("-", "_") for name in declared | optional}
    assert used <= allowed


def test_the_shipped_package_never_asserts_on_input():
    asserting = [
        f"{file.name}:{node.lineno}"
        for file in sources("edgeae")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert asserting == []


@pytest.mark.parametrize("folder", ["edgeae", "train", "export"])
def test_nothing_is_called_base_manager_utils_or_helper(folder):
    vague = re.compile(r"Base|Manager|Utils?|Helpers?")
    for file in sources(folder):
        assert not re.fullmatch(r"(base|manager|utils?|helpers?)", file.stem), file
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                assert not vague.search(node.name), f"{file.name}: {node.name}"


def in_new_process(code):
    """What the code prints as JSON in a new interpreter that sees the same edgeae as this one."""
    out = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(edgeae.__file__).parent.parent)},
    )
    return json.loads(out.stdout)


def test_import_edgeae_loads_nothing_heavy():
    loaded = in_new_process(
        "import json, sys; before = set(sys.modules); import edgeae;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    heavy = {"numpy", "onnxruntime", "soundfile", "soxr", "PIL", "typer", "rich", "torch", "onnx"}
    heavy |= {"paho", "opentelemetry", "ray", "pyarrow", "pandas"}
    assert not {name for name in loaded if name.startswith(("edgeae.link", "edgeae.ray"))}
    assert not heavy & {name.split(".")[0] for name in loaded}


def test_import_edgeae_takes_under_a_tenth_of_a_second_of_cpu():
    code = (
        "import json, time; start = time.process_time(); import edgeae;"
        "print(json.dumps(time.process_time() - start))"
    )
    assert min(in_new_process(code) for _ in range(3)) < 0.1


def test_the_command_line_does_not_load_torch_or_onnx():
    loaded = in_new_process(
        "import json, sys, edgeae.cli.app; print(json.dumps(sorted(sys.modules)))"
    )
    assert not {"torch", "onnx", "onnxruntime"} & set(loaded)


def test_every_public_name_is_there_and_listed():
    for name in edgeae.__all__:
        assert getattr(edgeae, name) is not None
    assert len(set(edgeae.__all__)) == len(edgeae.__all__)
    assert set(edgeae.__all__) <= set(dir(edgeae))
    needed = {"load", "decompress", "ImageCodec", "SignalDenoiser", "__version__", *errors.__all__}
    assert needed <= set(edgeae.__all__)
    public = {
        name
        for name, value in vars(edgeae).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("edgeae")
    }
    assert public <= set(edgeae.__all__)


def test_an_unknown_attribute_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="Codek"):
        _ = edgeae.Codek


def models():
    return [
        getattr(edgeae, name)
        for name in (
            "Autoencoder",
            "ImageCodec",
            "ImageDetector",
            "SignalDenoiser",
            "SpeechCodec",
            "Detector",
        )
        if name in edgeae.__all__
    ]


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_every_load_has_the_same_signature():
    expected = [
        ("model", inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty),
        ("precision", inspect.Parameter.KEYWORD_ONLY, None),
        ("providers", inspect.Parameter.KEYWORD_ONLY, None),
        ("device", inspect.Parameter.KEYWORD_ONLY, None),
        ("threads", inspect.Parameter.KEYWORD_ONLY, 1),
        ("strict", inspect.Parameter.KEYWORD_ONLY, False),
    ]
    assert len(models()) >= 2
    for function in [edgeae.load, *(model.load for model in models())]:
        assert parameters(function) == expected, function


def test_models_share_no_base():
    for model in models():
        assert model.__bases__ == (object,)
        assert model.__subclasses__() == []


# Methods of more than one array say so by position: fill(x, known), interpolate(a, b, steps).
DATA_ARGUMENTS = {"fill": 2, "interpolate": 3}


def test_public_methods_take_only_keywords_after_the_first_argument():
    for model in models():
        for name, method in inspect.getmembers(model, callable):
            if name.startswith("_"):
                continue
            kinds = [p.kind for p in inspect.signature(method).parameters.values()]
            own = kinds if inspect.ismethod(method) else kinds[1:]  # less self
            options = own[DATA_ARGUMENTS.get(name, 1) :]
            assert set(options) <= {inspect.Parameter.KEYWORD_ONLY}, f"{model.__name__}.{name}"


def test_the_changelog_begins_with_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\S+)", changelog, re.MULTILINE)
    assert versions[0] == edgeae.__version__


def test_the_errors_are_the_tree_that_is_drawn_at_the_top_of_their_file():
    drawn = re.findall(r"^([│├└─ ]*)([A-Z]\w+Error|UnknownCodec)", errors.__doc__, re.MULTILINE)
    parents = {}
    for indent, name in drawn:
        depth = len(indent) // 4
        parents[depth] = getattr(errors, name)
        if depth:
            assert issubclass(parents[depth], parents[depth - 1])
    assert sorted(name for _, name in drawn) == sorted(errors.__all__)
    assert issubclass(errors.BitstreamError, ValueError)


def test_errors_survive_a_process_pool():

    unknown = pickle.loads(pickle.dumps(errors.UnknownCodec("who", codec_id=b"x" * 16)))
    assert (str(unknown), unknown.codec_id) == ("who", b"x" * 16)
    refused = errors.ProviderError("none", asked=["A"], available=["B"])
    refused = pickle.loads(pickle.dumps(refused))
    assert (refused.asked, refused.available) == (("A",), ("B",))


LONGEST_FILE, LONGEST_FUNCTION = 600, 80


def has_reason(lines, node):
    """Whether the function, its decorators or the comment right above them says "Long: ...".

    `lines` are those of the file, `node` the function in its tree.
    """
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return any(line.lstrip().startswith("# Long:") for line in lines[first : node.end_lineno])


def too_long(text):
    """The functions of a file that are too long and give no reason: (name, lines)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = node.end_lineno - node.lineno + 1
            if count > LONGEST_FUNCTION and not has_reason(text.splitlines(), node):
                yield node.name, count


@pytest.mark.parametrize("folder", ["edgeae", "train", "export", "benchmarks", "tests"])
def test_every_file_and_function_can_be_read_in_one_sitting(folder):
    texts = {
        str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in sources(folder)
    }
    lines = {name: len(text.splitlines()) for name, text in texts.items()}
    assert {name: count for name, count in lines.items() if count > LONGEST_FILE} == {}
    long = {
        f"{name}:{function}": count
        for name, text in texts.items()
        for function, count in too_long(text)
    }
    assert long == {}


def test_a_long_function_is_found_unless_it_says_why():
    body = "    pass\n" * LONGEST_FUNCTION
    assert list(too_long(f"def f():\n{body}")) == [("f", LONGEST_FUNCTION + 1)]
    assert list(too_long(f"# Long: a table.\n@cache\ndef f():\n{body}")) == []
    assert list(too_long(f"def f():\n    # Long: a table.\n{body}")) == []
    assert list(too_long(f"# Long: g.\ndef g(): ...\ndef f():\n{body}")) == [
        ("f", LONGEST_FUNCTION + 1)
    ]
