"""Tells what this installation can do: versions, devices, encoders, weights."""

import os
import platform

import av
import numpy
import torch

from rematte.engines.choose import installed
from rematte.engines.device import choose_device
from rematte.version import __version__
from rematte.video.codecs import CODECS, IMAGES
from rematte.video.writer import is_nvenc, opens
from rematte.weights.registry import WEIGHTS, download_dir, find


def _encoder(name: str) -> str:
    try:
        av.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        return "missing from this FFmpeg"
    if is_nvenc(name) and not opens(name):
        return "no NVIDIA GPU that has it"
    return "ok"


def examine() -> dict[str, dict[str, str]]:
    """Look at everything a conversion depends on.

    Returns:
        Sections of findings, each a name and a value in words.
    """
    device, why = choose_device()
    gpus = {
        f"cuda:{index}": torch.cuda.get_device_name(index)
        for index in range(torch.cuda.device_count())
    }
    return {
        "versions": {
            "rematte": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "av (PyAV)": av.__version__,
            "ffmpeg": str(av.ffmpeg_version_info),
            "numpy": numpy.__version__,
            "system": f"{platform.system()} {platform.machine()}",
        },
        "devices": {
            "chosen by auto": f"{device} ({why})",
            "cpu": f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()}",
            **gpus,
        },
        "engines": {
            name: "ok" if there else "not installed"
            for name, there in installed().items()
        },
        "encoders": {
            **{
                f"{name} ({codec.encoder})": _encoder(codec.encoder)
                for name, codec in CODECS.items()
            },
            **{
                f"image {name}": _encoder(codec.encoder)
                for name, codec in IMAGES.items()
            },
        },
        "weights": {
            **{name: str(find(name) or "not here yet") for name in WEIGHTS},
            "downloads go to": str(download_dir()),
        },
    }


def describe() -> str:
    """The findings of `examine` as text."""
    lines = []
    for section, findings in examine().items():
        lines.append(f"{section}:")
        lines += [f"  {name:<26}{value}" for name, value in findings.items()]
    return "\n".join(lines)
