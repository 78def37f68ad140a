"""The examples of RobustVideoMatting's documentation, run as they stand.

Only file names and the length of things are filled in. There is no GPU here, so
`.cuda()` and `device="cuda"` are made to mean the CPU.
"""

import re
import runpy
import subprocess
import sys
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import make_clip
from fakes import ROOT, decode
from PIL import Image
from torch import Tensor

import rematte

FRAMES = 5


def count(path: Path) -> int:
    return len(decode(path))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "rvm_mobilenetv3.pth"
    torch.save(rematte.load_model().state_dict(), path)
    return path


@pytest.fixture
def workplace(checkpoint: Path, here: Path, monkeypatch: Any) -> Iterator[Path]:
    """A folder with what the examples name, and the repository on the path."""
    make_clip(here / "input.mp4", frames=FRAMES, size=(96, 64), sound=True)
    (here / checkpoint.name).hardlink_to(checkpoint)
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr(torch.nn.Module, "cuda", lambda self: self)
    monkeypatch.setattr(Tensor, "cuda", lambda self: self)
    before = set(sys.modules)
    yield here
    for name in {"model", "inference", "inference_utils"} & set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torchvision.transforms.ToTensor` as documented; there is no CPU wheel."""

    class ToTensor:
        def __call__(self, picture: Any) -> Tensor:
            array = np.array(picture)
            return torch.from_numpy(array).permute(2, 0, 1).float().div(255)

    transforms = types.ModuleType("torchvision.transforms")
    transforms.ToTensor = ToTensor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.transforms", transforms)


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "<documentation>", "exec"), names)
    return names


LOADING = """
import torch
from model import MattingNetwork
model = MattingNetwork(variant='mobilenetv3').eval().cuda() # Or variant="resnet50"
model.load_state_dict(torch.load('rvm_mobilenetv3.pth'))
"""


def test_model_loading_and_the_right_and_wrong_way(workplace: Path) -> None:
    model = run(LOADING)["model"]
    clip = [torch.rand(1, 3, 64, 96) for _ in range(3)]
    given = {"model": model, "YOUR_VIDEO": clip, "downsample_ratio": 0.5}
    right = run(
        """
rec = [None] * 4  # Initial recurrent states are None
for frame in YOUR_VIDEO:
    fgr, pha, *rec = model(frame, *rec, downsample_ratio)
""",
        **given,
    )
    wrong = run(
        """
for frame in YOUR_VIDEO:
    fgr, pha = model(frame, downsample_ratio)[:2]
""",
        **given,
    )
    assert wrong["pha"].shape == right["pha"].shape == (1, 1, 64, 96)
    expected = model(clip[-1], downsample_ratio=0.5)
    assert torch.equal(wrong["pha"], expected.pha)
    # Not alpha: in noise there may be no one, with memory or without.
    assert not torch.equal(wrong["fgr"], right["fgr"])


@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (1, 4, 3, 64, 96)])
def test_inference_loop(workplace: Path, shape: tuple[int, ...]) -> None:
    names = run(
        LOADING
        + """
rec = [None] * 4 # Set initial recurrent states to None
for src in YOUR_VIDEO:  # src can be [B, C, H, W] or [B, T, C, H, W]
    fgr, pha, *rec = model(src, *rec, downsample_ratio=0.25)
""",
        YOUR_VIDEO=[torch.rand(shape) for _ in range(2)],
    )
    assert names["fgr"].shape == shape
    assert names["pha"].shape == (*shape[:-3], 1, 64, 96)


@pytest.mark.usefixtures("torchvision")
def test_complete_example(workplace: Path) -> None:
    names = run(
        LOADING
        + """
from torch.utils.data import DataLoader
from torchvision.transforms import ToTensor
from inference_utils import VideoReader, VideoWriter
reader = VideoReader('input.mp4', transform=ToTensor())
writer = VideoWriter('output.mp4', frame_rate=30)
bgr = torch.tensor([.47, 1, .6]).view(3, 1, 1).cuda()  # Green background.
rec = [None] * 4                                       # Initial recurrent states.
with torch.no_grad():
    for src in DataLoader(reader):
        fgr, pha, *rec = model(src.cuda(), *rec, downsample_ratio=0.25)  # Cycle the recurrent states.
        writer.write(fgr * pha + bgr * (1 - pha))
"""  # noqa: E501
    )
    del names["writer"]  # the example never closes it
    assert count(workplace / "output.mp4") == FRAMES


CONVERT = """
convert_video(
    model,                           # The loaded model, can be on any device (cpu or cuda).
    input_source='input.mp4',        # A video file or an image sequence directory.
    input_resize=(1920, 1080),       # [Optional] Resize the input (also the output).
    downsample_ratio=0.25,           # [Optional] If None, make downsampled max size be 512px.
    output_type='video',             # Choose "video" or "png_sequence"
    output_composition='com.mp4',    # File path if video; directory path if png sequence.
    output_alpha="pha.mp4",          # [Optional] Output the raw alpha prediction.
    output_foreground="fgr.mp4",     # [Optional] Output the raw foreground prediction.
    output_video_mbps=4,             # Output video mbps. Not needed for png sequence.
    seq_chunk=12,                    # Process n frames at once for better parallelism.
    num_workers=1,                   # Only for image sequence input. Reader threads.
    progress=True                    # Print conversion progress.
)
"""  # noqa: E501


def small(code: str) -> str:
    """The same call at a size that a test can afford."""
    return code.replace("(1920, 1080)", "(192, 108)")


def check_outputs(folder: Path) -> None:
    for name in ("com.mp4", "pha.mp4", "fgr.mp4"):
        with av.open(str(folder / name)) as container:
            assert container.streams.video[0].width == 192
            assert len(container.streams.audio) == 1
        assert count(folder / name) == FRAMES


def test_png_sequence(workplace: Path) -> None:
    code = small(CONVERT).replace("'video'", "'png_sequence'")
    for name in ("com", "pha", "fgr"):
        code = code.replace(f"{name}.mp4", name)
    run(LOADING + "from inference import convert_video\n" + code)
    for name, channels in (("com", 4), ("pha", 1), ("fgr", 3)):
        files = sorted(path.name for path in (workplace / name).iterdir())
        assert files == [f"{index:04}.png" for index in range(FRAMES)]
        with Image.open(workplace / name / "0000.png") as image:
            assert len(image.getbands()) == channels


def test_command_line(workplace: Path) -> None:
    command = f"""{sys.executable} {ROOT}/inference.py \
    --variant mobilenetv3 \
    --checkpoint "rvm_mobilenetv3.pth" \
    --device cpu \
    --input-source "input.mp4" \
    --downsample-ratio 0.25 \
    --output-type video \
    --output-composition "composition.mp4" \
    --output-alpha "alpha.mp4" \
    --output-foreground "foreground.mp4" \
    --output-video-mbps 4 \
    --seq-chunk 12
"""
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("composition", "alpha", "foreground"):
        assert count(workplace / f"{name}.mp4") == FRAMES


def test_command_line_explains_errors(workplace: Path, capsys: Any) -> None:
    main = runpy.run_path(str(ROOT / "inference.py"))["main"]
    flags = ["--variant", "mobilenetv3", "--device", "cpu", "--input-source", "no.mp4"]
    flags += ["--output-composition", "com.mp4", "--checkpoint"]
    assert main([*flags, "rvm_mobilenetv3.pth"]) == 3
    assert main([*flags, "missing.pth"]) == 4
    assert main([*flags, "rvm_mobilenetv3.pth", "--device", "cuda:99"]) == 2
    assert "inference.py: device cuda:99: torch sees " in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torchhub(workplace: Path) -> None:
    hub = f"{str(ROOT)!r}"
    model = f'model = torch.hub.load({hub}, "mobilenetv3", source="local")'
    converter = f'convert_video = torch.hub.load({hub}, "converter", source="local")'
    run(f"import torch\n{model}\n{converter}\n{small(CONVERT)}")
    check_outputs(workplace)


def test_torchhub_without_weights(workplace: Path) -> None:
    network = torch.hub.load(str(ROOT), "resnet50", source="local", pretrained=False)
    assert network.backbone.layer4[2].conv3.out_channels == 2048


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torchhub_says_that_another_rematte_is_imported(tmp_path: Path) -> None:
    (tmp_path / "hubconf.py").write_text((ROOT / "hubconf.py").read_text("utf-8"))
    with pytest.raises(ImportError, match=re.escape(str(tmp_path))) as error:
        torch.hub.load(str(tmp_path), "mobilenetv3", source="local")
    assert str(ROOT / "rematte") in str(error.value)


def test_documented_modules_are_in_the_package(workplace: Path) -> None:
    for name in ("model", "inference", "inference_utils"):
        top, packaged = import_module(name), import_module(f"rematte.rvm.{name}")
        for each in top.__all__:
            assert getattr(top, each) is getattr(packaged, each)


def test_torchscript(workplace: Path) -> None:
    torch.jit.script(rematte.load_model()).save("rvm_mobilenetv3.torchscript")
    names = run(
        """
import torch
model = torch.jit.load('rvm_mobilenetv3.torchscript')
rec = [None] * 4
for src in YOUR_VIDEO:
    fgr, pha, *rec = model(src, *rec, downsample_ratio=0.25)
frozen_model = torch.jit.freeze(model)
from inference import convert_video
"""
        + small(CONVERT)
        .replace("model, ", "frozen_model, ")
        .replace("progress=True  ", "device='cpu', dtype=torch.float32"),
        YOUR_VIDEO=[torch.rand(1, 3, 64, 96) for _ in range(2)],
    )
    assert names["pha"].shape == (1, 1, 64, 96)
    check_outputs(workplace)


def test_reader_as_a_data_set(workplace: Path) -> None:
    utils = runpy.run_path(str(ROOT / "inference_utils.py"))
    reader = utils["VideoReader"](
        "input.mp4", lambda picture: torch.from_numpy(np.array(picture))
    )
    assert len(reader) == FRAMES
    inorder = [reader[index] for index in range(FRAMES)]
    assert torch.equal(reader[1], inorder[1])
    assert reader[3].shape == (64, 96, 3)
    with pytest.raises(IndexError, match=f"frame {FRAMES} of {FRAMES}"):
        reader[FRAMES]


def test_image_sequences(workplace: Path) -> None:
    utils = runpy.run_path(str(ROOT / "inference_utils.py"))
    clip = torch.rand(1, 3, 4, 16, 24)
    clip[:, :, 3] = 1  # opaque: what is seen through alpha 0 need not survive
    writer = utils["ImageSequenceWriter"]("images", "png")
    writer.write(clip)
    writer.close()
    reader = utils["ImageSequenceReader"]("images", np.array)
    assert len(reader) == 3
    for index in range(3):
        expected = clip[0, index, :3].movedim(0, -1).numpy() * 255
        assert np.abs(reader[index] - expected).max() <= 0.5


@pytest.mark.parametrize("rate", [30, 29.97, "24", 30000 / 1001])
def test_writer_takes_any_kind_of_rate(workplace: Path, rate: float | str) -> None:
    utils = runpy.run_path(str(ROOT / "inference_utils.py"))
    writer = utils["VideoWriter"]("any.mp4", rate)
    writer.write(torch.rand(4, 1, 17, 24))
    writer.close()
    with av.open("any.mp4") as container:
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(
            float(rate), abs=0.01
        )
