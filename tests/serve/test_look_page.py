"""Looking at a moment and playing a result by clicks and keys, in a real browser."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_clip
from fakes import decode
from playwright.sync_api import Page, expect
from served import CLIP, LONG, Served, is_state, opened, upload

COUNT = 12
# Alpha of the cut-out at places that are shares of the picture.
ALPHA = """(image, places) => {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return places.map(([x, y]) => context.getImageData(
    Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data[3]);
}"""
LEFT, RIGHT = (0.2, 0.6), (0.8, 0.6)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The person of the demo clip twice, and nobody in the last frames."""
    frames = [frame[::3, ::3] for frame in decode(CLIP)[:COUNT]]
    gap = np.full_like(frames[0][:, :64], 90)
    twice = [np.hstack([frame, gap, frame[:, ::-1]]) for frame in frames]
    empty = [np.full_like(twice[0], 90)] * COUNT
    return make_clip(
        tmp_path_factory.mktemp("clip") / "two.mp4", [*twice, *empty], sound=True
    )


@pytest.fixture(scope="module")
def page(
    launch: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, clip: Path
) -> Iterator[Page]:
    folder, size = tmp_path_factory.mktemp("look"), {"width": 1200, "height": 1900}
    with (
        Served(folder / "work") as served,
        closing(launch("--disable-gpu")) as browser,
        opened(browser, served.address, viewport=size) as page,
    ):
        upload(page, clip)
        yield page


def is_made(page: Page) -> None:
    expect(page.locator(".busy")).to_be_hidden(timeout=LONG)


def look_at(page: Page, frame: int) -> None:
    page.locator(".scrub .at").fill(str(frame))
    is_made(page)


def alpha(page: Page) -> list[int]:
    is_made(page)
    found: list[int] = page.locator(".cutout").evaluate(ALPHA, [LEFT, RIGHT])
    return found


def click(page: Page, place: tuple[float, float], surface: str = ".layer") -> None:
    box = page.locator(surface).bounding_box()
    page.locator(surface).click(
        position={"x": place[0] * box["width"], "y": place[1] * box["height"]}
    )


def test_a_moment_is_chosen_and_thumbnails_come(page: Page) -> None:
    is_made(page)
    expect(page.locator(".strip img[src]")).to_have_count(10, timeout=LONG)
    assert min(alpha(page)) > 200
    look_at(page, 2 * COUNT - 2)
    assert max(alpha(page)) < 50
    expect(page.locator(".verdict")).to_contain_text("No people found here.")
    page.locator(".scrub .at").press("Home")
    expect(page.locator(".now")).to_have_text("0:00.0")
    for _ in range(5):
        page.locator(".moment .step-on").click()
    expect(page.locator(".now")).to_have_text("0:00.2")
    expect(page.locator(".scrub .at")).to_have_attribute("aria-valuetext", "0:00.2")


def test_a_click_keeps_or_leaves_out_a_person(page: Page) -> None:
    look_at(page, 5)
    click(page, LEFT)
    expect(page.locator(".chosen")).to_have_text("One person is kept")
    assert [a > 200 for a in alpha(page)] == [True, False]
    page.get_by_label("Leave one out").check()
    click(page, LEFT, ".stage")
    assert [a > 200 for a in alpha(page)] == [False, True]
    page.get_by_role("button", name="Undo").click()
    assert [a > 200 for a in alpha(page)] == [True, False]
    page.keyboard.press("Control+z")
    assert min(alpha(page)) > 200


def test_a_click_on_nobody_is_taken_back(page: Page) -> None:
    look_at(page, 5)
    page.get_by_label("Keep one person").check()
    click(page, LEFT)
    click(page, (0.5, 0.05))
    said = page.locator(".chosen")
    expect(said).to_have_text(
        "Nobody is there. Click on a person. One person is kept", timeout=LONG
    )
    assert [a > 200 for a in alpha(page)] == [True, False]
    page.get_by_role("button", name="Undo").click()
    expect(said).to_have_text("")
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    assert min(alpha(page)) > 200
    click(page, (0.5, 0.05))
    expect(said).to_have_text("Nobody is there. Click on a person.", timeout=LONG)
    expect(page.get_by_role("button", name="Clear")).to_be_disabled()
    assert min(alpha(page)) > 200


def test_a_preview_that_fails_is_tried_again(page: Page) -> None:
    refused = {"status": 422, "json": {"error": "the process was killed; try it again"}}
    page.route("**/cutout", lambda route: route.fulfill(**refused))
    page.locator(".moment .step-on").click()
    expect(page.locator(".busy")).to_have_text("The process was killed; try it again.")
    page.unroute("**/cutout")
    page.get_by_role("button", name="Try again").click()
    assert min(alpha(page)) > 200
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


def test_a_new_part_keeps_the_preview(page: Page) -> None:
    look_at(page, 5)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("button", name="Start here").click()
    expect(page.locator(".part")).to_have_text("Only 0:00.8 will be converted")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".part")).to_have_text("")
    assert not [url for url in asked if "cutout" in url or "still/frame" in url]


def test_areas_are_painted_by_mouse_and_by_keys(page: Page) -> None:
    look_at(page, 5)
    page.get_by_label("Paint out").check()
    layer = page.locator(".layer")
    box = layer.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + 0.6 * box["height"])
              for x in (0.15, 0.2, 0.25)]  # fmt: skip
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.mouse.up()
    expect(page.locator(".chosen")).to_have_text("1 area painted out")
    assert [a > 200 for a in alpha(page)] == [False, True]
    # A box over the right one, for this moment alone, from the middle of the picture.
    page.locator("[name=shape]").select_option("box")
    page.locator("[name=holds]").select_option("before")
    page.locator(".tool-hint").click()
    layer.focus()
    layer.press("Enter")
    for key in ("Shift+ArrowRight",) * 5 + ("Shift+ArrowDown",) * 3:
        layer.press(key)
    layer.press("Enter")
    expect(page.locator(".chosen")).to_have_text("2 areas painted out")
    assert max(alpha(page)) < 50
    look_at(page, 8)
    assert [a > 200 for a in alpha(page)] == [False, True]
    layer.press("Enter")
    layer.press("Escape")
    expect(page.locator(".chosen")).to_have_text("2 areas painted out")


def test_previews_come_when_the_server_is_back(page: Page) -> None:
    is_made(page)
    page.context.set_offline(True)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".busy")).to_have_text("Making the preview…")
    page.context.set_offline(False)
    assert min(alpha(page)) > 200


def test_a_part_is_converted_and_played(page: Page, tmp_path: Path) -> None:
    look_at(page, 3)
    page.get_by_label("Keep one person").check()
    click(page, LEFT)
    page.get_by_role("button", name="Start here").click()
    look_at(page, 8)
    page.get_by_role("button", name="End here").click()
    expect(page.locator(".part")).to_contain_text("0:00.2")
    page.locator(".card .start").click()
    is_state(page, "done")
    with page.expect_download() as caught:
        page.locator(".downloads a[data-kind=mp4]").click()
    caught.value.save_as(tmp_path / "part.mp4")
    assert len(decode(tmp_path / "part.mp4")) == 6
    player = page.locator(".player")
    expect(player.locator("canvas")).to_have_attribute("data-drawn", "0", timeout=LONG)
    player.get_by_role("button", name="Compare").click()
    for view, right in ("colour", (255, 0, 0)), ("alpha", (0, 0, 0)):
        player.locator(".view").select_option(view)
        if view == "colour":
            player.locator(".player-tint").fill("#ff0000")
        shown = player.locator("canvas").evaluate(
            """canvas => Array.from(canvas.getContext("2d").getImageData(
                canvas.width * .8, canvas.height * .6, 1, 1).data)"""
        )
        assert np.abs(np.array(shown[:3]) - right).max() < 40
    player.locator(".view").select_option("original")
    for name in (".chip", ".wipe", ".wiped"):
        expect(player.locator(name).first).to_be_hidden()
    player.locator(".view").select_option("alpha")
    player.get_by_role("button", name="Compare").click()
    expect(player.locator(".wipe")).to_be_visible()
    player.get_by_role("button", name="Next frame").click()
    expect(player.locator(".clock")).to_have_text("0:00.1 / 0:00.2")
    player.get_by_role("button", name="Sound off").click()
    expect(player.get_by_role("button", name="Sound on")).to_be_visible()
    player.get_by_role("button", name="Full screen").click()
    expect(player.get_by_role("button", name="Leave full screen")).to_be_visible()
    player.get_by_role("button", name="Leave full screen").click()
