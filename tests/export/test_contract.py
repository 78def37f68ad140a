"""The laws that hold for every format."""

from pathlib import Path

import pytest
from exporting import EVEN, exported, is_fixed, request

from rematte.errors import OutputError
from rematte.export import FORMATS, export
from rematte.export.formats import PRECISIONS
from rematte.network.matting_network import MattingNetwork

# Files beside the one that is named.
BESIDE = {"openvino": ".bin", "ncnn": ".ncnn.bin"}
# Mean difference in alpha; for float32 it is the largest difference of all.
LIMITS = {"float32": 1e-4, "float16": 1e-3, "int8": 1e-2}
# Share of the float32 file's size.
SIZES = {"float16": 0.6, "int8": 0.4}
SHORT = {"float32": "fp32", "float16": "fp16", "int8": "int8"}


def case(name: str, *more: object) -> object:
    """Parameters of a format; those of TensorFlow run in a process of their own."""
    marks = [pytest.mark.xdist_group(FORMATS[name].extra or "torch")]
    if "tensorflow" in FORMATS[name].needs:
        marks.append(pytest.mark.tensorflow)
    return pytest.param(name, *more, marks=marks, id="-".join([name, *map(str, more)]))


every_format = pytest.mark.parametrize("name", [case(n) for n in FORMATS])


@pytest.mark.parametrize(
    ("name", "precision"),
    [case(n, p) for n, kind in FORMATS.items() for p in kind.precisions],
)
class TestFile:
    """A file of each precision that a format has."""

    def test_gives_the_networks_frames(self, name: str, precision: str) -> None:
        done = exported(name, precision)
        frames = [each.frames for each in done.differences]
        if is_fixed(name, precision):
            assert frames == [12]
        else:
            assert frames in ([12, 3, 5], [12, 5])
        for each in done.differences:
            assert each.mean["pha"] < LIMITS[precision]
            if precision == "float32":
                assert max(each.most.values()) < 1e-4
                assert each.most.keys() == {"fgr", "pha", "states"}

    def test_has_its_documented_name_and_nothing_is_left_beside(
        self, name: str, precision: str
    ) -> None:
        path, kind = exported(name, precision).path, FORMATS[name]
        parts = ["rvm", "mobilenetv3", SHORT[precision]]
        if is_fixed(name, precision):
            (height, width), ratio = request(name, precision).fixed
            parts[2:2] = [f"{width}x{height}", f"s{ratio:g}"]
        stem = "_".join([*parts, *([] if kind.suffix else [name])])
        suffixes = {kind.suffix, BESIDE.get(name, kind.suffix)}
        assert path.name == stem + kind.suffix
        assert {entry.name for entry in path.parent.iterdir()} == {
            stem + suffix for suffix in suffixes
        }

    def test_is_as_small_as_its_precision(self, name: str, precision: str) -> None:
        whole = exported(name).megabytes
        assert 14 < whole < (50 if name == "pt2" else 20)
        if precision != "float32":
            assert exported(name, precision).megabytes < SIZES[precision] * whole


@pytest.mark.parametrize(
    "name",
    [case(n) for n in FORMATS if n not in ("torchscript-frozen", "keras", "tensorflow",
                                           "coreml-neuralnetwork")],
)  # fmt: skip
def test_the_large_network(name: str) -> None:
    """The formats left out share the code of one that is here."""
    for each in exported(name, large=True).differences:
        assert each.most["pha"] < 1e-4
        assert name == "openvino" or max(each.most.values()) < 1e-4


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        case(n, p)
        for n, kind in FORMATS.items()
        for p in kind.precisions
        if kind.stateful and (n, p) != ("coreml", "float32")  # refused, see test_coreml
    ],
)
def test_states_kept_inside(name: str, precision: str) -> None:
    (found,) = exported(name, precision, stateful=True).differences
    assert found.mean["pha"] < LIMITS[precision]
    assert found.most.keys() == {"fgr", "pha"}
    if precision == "float32":
        assert max(found.most.values()) < 1e-4


def usual(name: str) -> dict[str, object]:
    """Arguments with which a format can be had."""
    fixed = is_fixed(name)
    return {"size": EVEN[0] if fixed else None,
            "downsample_ratio": EVEN[1] if fixed else None}  # fmt: skip


@every_format
class TestRefusal:
    """What is refused before anything is written, with the remedy."""

    def test_precision(
        self, name: str, bundled: MattingNetwork, tmp_path: Path
    ) -> None:
        for precision in {*PRECISIONS, "bfloat16"} - {*FORMATS[name].precisions}:
            with pytest.raises(
                ValueError, match=rf"of {name} must be one of float32.*got '{precision}"
            ):
                export(bundled, name, tmp_path / "net", precision=precision)

    def test_size(self, name: str, bundled: MattingNetwork, tmp_path: Path) -> None:
        fixed = FORMATS[name].fixed
        size, ratio = (None, None) if fixed == "always" else (EVEN[0], None)
        message = {"always": "add --static", "never": "leave --static out",
                   "can be": "give both --static and"}[fixed]  # fmt: skip
        with pytest.raises(ValueError, match=message):
            export(bundled, name, tmp_path / "net", size=size, downsample_ratio=ratio)

    def test_states(self, name: str, bundled: MattingNetwork, tmp_path: Path) -> None:
        if not FORMATS[name].stateful:
            with pytest.raises(ValueError, match="leave --stateful out, or use open"):
                export(bundled, name, tmp_path / "net", stateful=True, **usual(name))

    def test_missing_package(
        self, name: str, bundled: MattingNetwork, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr("rematte.export.core.find_spec", lambda module: None)
        kind = FORMATS[name]
        if kind.needs:
            with pytest.raises(ValueError, match=rf"install 'rematte\[{kind.extra}\]'"):
                export(bundled, name, tmp_path / "net", **usual(name))

    def test_target(
        self, name: str, bundled: MattingNetwork, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr("rematte.export.core.find_spec", lambda module: True)
        kind = FORMATS[name]
        if kind.suffix:
            with pytest.raises(
                OutputError, match=rf"must end in {kind.suffix}; rename"
            ):
                export(bundled, name, tmp_path / "net.other", **usual(name))
        path = tmp_path / f"net{kind.suffix}"
        with pytest.raises(OutputError, match="create it first"):
            export(bundled, name, tmp_path / "missing" / path.name, **usual(name))
        path.write_text("old")
        with pytest.raises(OutputError, match="add --overwrite or use another name"):
            export(bundled, name, path, **usual(name))
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]
