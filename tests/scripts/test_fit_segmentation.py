"""The segmentation script: it learns what can be told, and leaves all else alone."""

from pathlib import Path

import fit_segmentation as script
import torch
from fakes import random_network
from safetensors.torch import load_file, save_file


def test_a_mask_that_the_maps_tell_is_learned(tmp_path: Path) -> None:
    network = random_network()
    hidden = torch.randn(1, 16, 40, 60)
    mask = (hidden[:, 3:4] - hidden[:, 7:8] > 0.2).float()
    script.fit(network, hidden.flatten(2)[0].T, mask.flatten())
    told = script.overlap(network, [(hidden, mask)])
    assert float(told.split(",")[0].split()[1]) > 0.97

    state = {k: v.half().contiguous() for k, v in network.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors", {"made": "here"})
    with torch.no_grad():
        network.project_seg.conv.weight.add_(1)
    out = tmp_path / "b.safetensors"
    script.write(
        str(tmp_path / "a.safetensors"), out, "project_seg", network.project_seg
    )
    written = load_file(out)
    changed = {k for k, v in written.items() if not torch.equal(v, state[k])}
    assert changed == {"project_seg.conv.weight"}
