"""The laws that hold for every format."""

from pathlib import Path
from typing import Any

import pytest
from conftest import needs
from exporting import EVEN, exported, is_fixed, request
from fakes import formula_network, names

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
        assert names(path.parent) == {stem + suffix for suffix in suffixes}

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
    "name", [case(n) for n, kind in FORMATS.items() if kind.fixed == "always"]
)
def test_the_fast_network_at_a_size_that_needs_crops(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(*FORMATS[name].needs)
    monkeypatch.setattr("rematte.export.core._checks", lambda _: [(67, 98, 1.0, 2)])
    network = formula_network("mobilenetv3_fast", "deep_guided_filter")
    path = tmp_path / f"fast{FORMATS[name].suffix}"
    export(network, name, path, size=(98, 67), downsample_ratio=1.0)
    assert path.exists()


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


@pytest.mark.parametrize("name", [case(n) for n in FORMATS])
def test_what_is_refused_before_anything_is_written(
    name: str, bundled: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, (size, ratio) = FORMATS[name], EVEN
    usual = {"size": size, "downsample_ratio": ratio} if is_fixed(name) else {}
    path = tmp_path / f"net{kind.suffix}"

    def refused(
        remedy: str, path: Path = path, error: type[Exception] = ValueError, **more: Any
    ) -> None:
        with pytest.raises(error, match=remedy):
            export(bundled, name, path, **{**usual, **more})

    for precision in {*PRECISIONS, "bfloat16"} - {*kind.precisions}:
        said = rf"of {name} must be one of float32.*got '{precision}"
        refused(said, precision=precision)
    if not kind.stateful:
        refused("leave --stateful out, or use open", stateful=True)
    if kind.fixed == "always":
        refused("add --static", size=None, downsample_ratio=None)
    else:
        remedy = "leave --static out" if kind.fixed == "never" else "give both --static"
        refused(remedy, size=size, downsample_ratio=None)
    with monkeypatch.context() as patch:
        patch.setattr("rematte.export.core.find_spec", lambda module: None)
        if kind.needs:
            refused(rf"install 'rematte\[{kind.extra}\]'")
    monkeypatch.setattr("rematte.export.core.find_spec", lambda module: True)
    if kind.suffix:
        other = tmp_path / "net.other"
        refused(rf"must end in {kind.suffix}; rename", other, OutputError)
    refused("create it first", tmp_path / "missing" / path.name, OutputError)
    path.write_text("old")
    refused("add --overwrite or use another name", error=OutputError)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
