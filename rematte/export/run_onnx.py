"""Runs an ONNX model over a clip and keeps its recurrent states on the device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.engines.runtimes import import_onnxruntime
from rematte.errors import InputError, WeightsError
from rematte.export.formats import INPUTS, OUTPUTS

Floats = NDArray[np.floating]

_STATES, _OUTPUTS = [*INPUTS[1:]], [*OUTPUTS]
_USUAL = ["CUDAExecutionProvider", "CPUExecutionProvider"]


class OnnxMatting:
    """Maps frames to foreground and alpha, one after the other.

    Call it as `fgr, pha = runner(src, downsample_ratio)`. Only these become numpy
    arrays; the states stay on the device and are bound to the next frame's inputs.

    Args:
        path: A model as `rematte export onnx` writes it, of any precision, for any
            size or for one.
        providers: ONNX Runtime's names of execution providers, the best first; None
            takes CUDA where it is available, else the CPU.

    Raises:
        InputError: If the file does not exist.
        WeightsError: If it is no ONNX model, or has other inputs and outputs.
        ValueError: If a provider is not available.
        ModuleNotFoundError: If ONNX Runtime is not installed.
    """

    def __init__(
        self, path: str | Path, providers: Sequence[str] | None = None
    ) -> None:
        try:
            onnxruntime = import_onnxruntime()
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "OnnxMatting needs onnxruntime: pip install 'rematte[onnx]'"
            ) from error
        if not Path(path).is_file():
            raise InputError(f"{path} does not exist; rematte export onnx writes one")
        available = onnxruntime.get_available_providers()
        if providers is None:
            providers = [name for name in _USUAL if name in available]
        for name in providers:  # ONNX Runtime would ignore it
            if name not in available:
                raise ValueError(f"providers must be of {available}, got {name!r}")
        try:
            session = onnxruntime.InferenceSession(path, providers=list(providers))
        except Exception as error:  # its errors have no common class
            raise WeightsError(
                f"ONNX Runtime cannot run {path} ({error}); rematte export onnx writes "
                "models that it can"
            ) from error
        self._session = session
        _check(path, session)
        inputs = {entry.name: entry for entry in session.get_inputs()}
        self._dtype = np.float16 if "16" in inputs["src"].type else np.float32
        self._free = "downsample_ratio" in inputs
        self._shape = inputs["src"].shape  # with a name for each free side
        self._device = "cuda" if "CUDA" in session.get_providers()[0] else "cpu"
        self._new: Any = onnxruntime.OrtValue.ortvalue_from_numpy
        self._zeros = []
        for name in _STATES:
            shape = [n if isinstance(n, int) else 1 for n in inputs[name].shape]
            self._zeros.append(self._on_device(np.zeros(shape, self._dtype)))
        self._io = session.io_binding()
        self.reset()

    def reset(self) -> None:
        """Start a new clip: clear the states."""
        self._states = self._zeros
        self._seen: tuple[tuple[int, ...], float] | None = None

    def __call__(
        self, src: Floats, downsample_ratio: float | None = None
    ) -> tuple[Floats, Floats]:
        """Matte the next frame.

        Args:
            src: RGB in [0, 1], (B, 3, H, W).
            downsample_ratio: Size of the coarse pass, in (0, 1]; 1 by default. A
                model for one size has a ratio of its own.

        Returns:
            Foreground and alpha, (B, 3, H, W) and (B, 1, H, W), in the model's type.

        Raises:
            ValueError: If the model does not accept the frame, or size or ratio differ
                from the frame before.
        """
        self._check_frame(src, downsample_ratio)
        ratio = 1.0 if downsample_ratio is None else downsample_ratio
        if self._seen not in (None, (src.shape, ratio)):
            raise ValueError(
                f"src {list(src.shape)} at ratio {ratio:g} comes after other frames "
                f"({self._seen}); states cannot be carried over to another size, ratio "
                "or batch: call reset() first"
            )
        self._seen = src.shape, ratio
        frame = np.ascontiguousarray(src, self._dtype)  # must live until the run ends
        self._io.bind_cpu_input("src", frame)
        for name, state in zip(_STATES, self._states, strict=True):
            self._io.bind_ortvalue_input(name, state)
        if self._free:
            given = self._on_device(np.array([ratio], np.float32))
            self._io.bind_ortvalue_input("downsample_ratio", given)
        # Bound again for each frame, else it would overwrite the frame before.
        for name in _OUTPUTS:
            self._io.bind_output(name, self._device)
        self._session.run_with_iobinding(self._io)
        fgr, pha, *self._states = self._io.get_outputs()
        return fgr.numpy(), pha.numpy()

    def _on_device(self, array: Floats) -> Any:
        return self._new(array, self._device, 0)

    def _check_frame(self, src: Floats, ratio: float | None) -> None:
        shape = list(src.shape)
        if not np.issubdtype(src.dtype, np.floating):
            raise ValueError(
                f"src must be floating point in [0, 1], got {src.dtype}; divide 8-bit "
                "frames by 255"
            )
        if self._free:
            if len(shape) != 4 or shape[1] != 3:
                raise ValueError(
                    f"src must be (B, 3, H, W), got {shape}; a single frame (3, H, W) "
                    "needs src[None]"
                )
            if ratio is not None and not (
                0 < ratio <= 1 and min(shape[2:]) * ratio >= 1
            ):
                raise ValueError(
                    "downsample_ratio must be in (0, 1] and leave a pixel of "
                    f"{shape[3]}x{shape[2]}, got {ratio}"
                )
            return
        if shape != self._shape:
            raise ValueError(
                f"src is {shape}, but this model was made for {self._shape} alone: "
                "resize the frame, or export a model for its size, or for any"
            )
        if ratio is not None:
            raise ValueError(
                "this model was made for one downsample_ratio, got "
                f"{ratio}: leave it out, or export a model for any"
            )


def _check(path: str | Path, session: Any) -> None:
    """Check that a model has the documented inputs and outputs."""
    inputs = [entry.name for entry in session.get_inputs()]
    outputs = [entry.name for entry in session.get_outputs()]
    named = set(inputs) - {"downsample_ratio"} == {"src", *_STATES}
    if not named or set(outputs) != set(_OUTPUTS):
        raise WeightsError(
            f"{path} has the inputs {inputs} and the outputs {outputs}; needed are "
            f"{['src', *_STATES]}, perhaps downsample_ratio, and {_OUTPUTS}: "
            "rematte export onnx writes such a model"
        )
