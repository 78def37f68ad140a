"""`rematte doctor`: what this installation can do."""

import json
import os
import platform
from argparse import Namespace
from importlib import import_module
from importlib.util import find_spec

from rematte.cli.parser import Commands
from rematte.version import __version__

# What each extra adds, and the modules that it needs.
EXTRAS = {
    "torch": (
        "GPUs, other weights, load_model and MattingNetwork in Python, rematte bench",
        "torch",
    ),
    "train": ("rematte train", "torch", "pydantic", "PIL"),
    "web": ("rematte serve", "starlette", "uvicorn"),
    "live": ("windows and virtual cameras for rematte live", "pygame", "pyvirtualcam"),
    "ray": ("rematte batch --ray", "ray"),
    "s3": ("s3:// addresses for rematte batch", "s3fs", "upath"),
    "gs": ("gs:// addresses for rematte batch", "gcsfs", "upath"),
    "exports": (
        "rematte export, all formats",
        *("torch", "onnx", "onnxruntime", "onnxscript", "tensorflow", "coremltools"),
        *("executorch", "ncnn", "pnnx"),
    ),
}


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="versions, devices, encoders, engines and weights found",
        usage="%(prog)s [options]",
        description="Print what this installation can do.",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(options: Namespace) -> int:
    """Print the findings as text or JSON."""
    print(json.dumps(examine()) if options.json else describe())
    return 0


def _encoder(name: str) -> str:
    import av

    from rematte.video.codecs import is_nvenc, opens

    if name == "avif":  # Pillow's
        return _extra("animated AVIF (avif)", "PIL")
    try:
        av.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        return "missing from this FFmpeg"
    if is_nvenc(name) and not opens(name):
        return "no NVIDIA GPU that has it"
    return "ok"


def _extra(brings: str, *modules: str) -> str:
    if all(find_spec(module) for module in modules):
        return "ok"
    return f"not installed, brings: {brings}"


def examine() -> dict[str, dict[str, str]]:
    """Return sections of what a conversion depends on, by name, in words."""
    import av
    import numpy

    from rematte.engines.device import choose_device
    from rematte.engines.runtimes import package_versions, processor
    from rematte.video.codecs import CODECS, IMAGES
    from rematte.weights.registry import WEIGHTS, download_dir, find

    device, why = choose_device()
    torch = None if find_spec("torch") is None else import_module("torch")
    gpus = {} if torch is None else {
        f"cuda:{index}": torch.cuda.get_device_name(index)
        for index in range(torch.cuda.device_count())
    }  # fmt: skip
    codecs = {f"{name} ({codec.encoder})": codec for name, codec in CODECS.items()}
    codecs |= {f"image {name}": codec for name, codec in IMAGES.items()}
    return {
        "versions": {
            "rematte": __version__,
            "python": platform.python_version(),
            "av (PyAV)": av.__version__,
            "ffmpeg": str(av.ffmpeg_version_info),
            "numpy": numpy.__version__,
            "openvino": package_versions(["openvino"]).get("openvino", "not installed"),
            "torch": "not installed" if torch is None else torch.__version__,
            "system": f"{platform.system()} {platform.machine()}",
        },
        "devices": {
            "chosen by auto": f"{device} ({why})",
            "cpu": f"{os.cpu_count()} cores; {processor()}",
            **gpus,
        },
        "extras": {extra: _extra(*names) for extra, names in EXTRAS.items()},
        "encoders": {name: _encoder(codec.encoder) for name, codec in codecs.items()},
        "weights": {
            **{name: str(find(name) or "not here yet") for name in WEIGHTS},
            "downloads go to": str(download_dir()),
        },
    }


def describe() -> str:
    """Format the findings of `examine` as text."""
    lines = []
    for section, findings in examine().items():
        lines.append(f"{section}:")
        lines += [f"  {name:<26}{value}" for name, value in findings.items()]
    return "\n".join(lines)
