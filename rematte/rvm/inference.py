"""RobustVideoMatting's converter: its function, and its flags on the command line.

`python inference.py --variant mobilenetv3 --checkpoint FILE --device cuda
--input-source input.mp4 --output-composition out.mp4` works in a checkout as documented
there, and `python -m rematte.rvm.inference` in an installation. `rematte convert` does
more.
"""

import argparse
import sys

import torch

from rematte.convert import convert_video
from rematte.engines.device import choose_device
from rematte.errors import explain
from rematte.network.matting_network import VARIANTS
from rematte.weights.load import load_model

__all__ = ["convert_video"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Cut people out of a video.")
    parser.add_argument("--variant", required=True, choices=VARIANTS)
    parser.add_argument(
        "--checkpoint", required=True, help="a file, or a name such as rvm-mobilenetv3"
    )
    parser.add_argument("--device", required=True, help="cpu, cuda, cuda:N or mps")
    parser.add_argument("--input-source", required=True)
    parser.add_argument(
        "--input-resize", type=int, nargs=2, metavar=("WIDTH", "HEIGHT")
    )
    parser.add_argument("--downsample-ratio", type=float)
    parser.add_argument("--output-composition")
    parser.add_argument("--output-alpha")
    parser.add_argument("--output-foreground")
    parser.add_argument(
        "--output-type", default="video", choices=("video", "png_sequence")
    )
    parser.add_argument("--output-video-mbps", type=float, default=1)
    parser.add_argument("--seq-chunk", type=int, default=1)
    parser.add_argument("--num-workers", type=int, default=0)
    parser.add_argument("--disable-progress", action="store_true")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Convert as the flags say, and return the exit code of `rematte convert`."""
    # The other flags have the names of the function's arguments.
    given = vars(_parser().parse_args(arguments))
    variant, checkpoint = given.pop("variant"), given.pop("checkpoint")
    given["progress"] = not given.pop("disable_progress")
    if given["input_resize"] is not None:
        given["input_resize"] = tuple(given["input_resize"])
    try:
        given["device"], _ = choose_device(given["device"])
        model = load_model(checkpoint, variant, given["device"])
        convert_video(model, dtype=torch.float32, **given)
    except (Exception, KeyboardInterrupt) as error:
        code, text = explain(error)
        print(f"inference.py: {text}", file=sys.stderr)
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
