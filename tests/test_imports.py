"""The directions in which modules may import one another."""

import ast
import subprocess
import sys
from pathlib import Path

import rematte

PACKAGE = Path(rematte.__file__).parent

# Read: may import, of this package, only these. The flow goes from the command line
# down; errors and version are everybody's.
ALLOWED = {
    "encoders": set(),
    "network": {"encoders"},
    "device": set(),
    "video": {"video"},
    "weights": {"network"},
    "refining": {"video"},
    "pipeline": set(),
    "fitting": {"video"},
    "doubling": {"video"},
    "staged": {"doubling", "network"},
    "runtimes": {"weights"},
    "engines": {"doubling", "fitting", "network", "runtimes", "staged", "weights"},
    "cuda": {"engines", "network", "triton"},
    "triton": set(),
    "matting": {"device", "engines", "network", "refining", "video"},
    "compositing": {"device", "matting", "video"},
    "options": {"video"},
    "convert": {
        *("compositing", "cuda", "engines", "matting", "network", "options"),
        *("pipeline", "video"),
    },
    "storage": {"video"},
    "pipes": {"convert", "video"},
    "batch": {"convert", "storage", "video"},
    "cluster": {"batch", "device", "pipeline", "runtimes", "segments", "storage"},
    "segments": {"compositing", "convert", "engines", "matting", "options", "video"},
    "streams": {"matting", "video"},
    "live": {"compositing", "convert", "options", "video"},
    "serve": {
        "batch",
        "compositing",
        "convert",
        "matting",
        "pipeline",
        "serve",
        "video",
    },
    "doctor": {"device", "engines", "video", "weights"},
    # Evaluation lies beside the flow: of it, only the command line knows these.
    "metrics": set(),
    "keying": set(),
    "clips": {"video"},
    "evaluate": {"clips", "matting", "metrics", "video"},
    "testset": {"clips", "compositing", "matting", "video"},
    "bench": {
        *("convert", "device", "engines", "matting", "network", "pipeline"),
        *("video", "weights"),
    },
    "train": {"device", "encoders", "network", "train", "video", "weights"},
    "onnx": {"runtimes"},
    "tensorflow": set(),
    "export": {
        *("engines", "export", "network", "runtimes", "tensorflow", "video", "weights"),
    },
    "cli": {
        *("bench", "compositing", "convert", "device", "doctor", "engines", "export"),
        *("batch", "cluster", "live", "pipes", "segments", "serve"),
        *(
            "evaluate",
            "keying",
            "network",
            "options",
            "pipeline",
            "testset",
            "train",
            "video",
            "weights",
        ),
    },
    "__main__": {"cli"},
    "__init__": {"convert", "matting", "network", "weights"},
    "errors": set(),
    "version": set(),
}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module == "rematte":
                names |= {f"rematte.{alias.name}" for alias in node.names}
            else:
                names.add(module)
    return names


def test_every_module_imports_only_what_lies_below_it() -> None:
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        own = {
            name.split(".")[1] for name in imports(path) if name.startswith("rematte.")
        }
        assert own - {"errors", "version"} <= ALLOWED[part], path


def test_video_knows_no_torch_and_the_network_no_files() -> None:
    for path in (PACKAGE / "video").glob("*.py"):
        assert not any(name.startswith("torch") for name in imports(path)), path
    forbidden = {"pathlib", "os", "argparse", "av", "urllib", "safetensors"}
    assert not imports(PACKAGE / "network.py") & forbidden


def test_runtimes_are_imported_in_one_place() -> None:
    """That place switches off what they would send."""
    for runtime in ("openvino", "onnxruntime", "ray"):
        within = [p.name for p in PACKAGE.rglob("*.py") if runtime in imports(p)]
        assert within == ["runtimes.py"], f"call runtimes.import_{runtime} instead"


def test_openvino_comes_without_its_telemetry() -> None:
    """It would send usage data that nobody asked for, from a process of its own."""
    code = (
        "import sys, threading\n"
        "from rematte.runtimes import import_openvino\n"
        "core = import_openvino().Core()\n"
        "assert 'openvino_telemetry' not in sys.modules, 'it was imported'\n"
        "assert threading.active_count() == 1, 'a thread sends'\n"
        "import openvino_telemetry  # hidden for no longer than it took"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=True)


def test_help_needs_none_of_the_extras() -> None:
    """Modules that stand at the top of no module on the way to the help."""
    hidden = (
        "scipy",
        "matplotlib",
        "openvino",
        "onnxruntime",
        "onnxscript",
        "PIL",
        "pygame",
        "ray",
        "upath",
        "starlette",
        "uvicorn",
    )
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"
        "import rematte.cli; rematte.cli.build_parser().format_help()\n"
        "assert not {'rematte.evaluate', 'rematte.metrics'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=True)


def test_public_names_exist() -> None:
    for name in rematte.__all__:
        assert hasattr(rematte, name)
