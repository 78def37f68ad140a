"""The page by clicks, in a real browser over a real server with the real network."""

import re
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import make_clip, require
from fakes import decode
from PIL import Image
from playwright.sync_api import Page, expect
from served import CLIP, LONG, ROOT, Served, is_state, opened, upload

AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
# Counts what is loaded at the same time.
COUNT = """
  const now = { preview: 0, upload: 0 };
  window.most = { preview: 0, upload: 0 };
  const add = (kind) => most[kind] = Math.max(most[kind], ++now[kind]);
  const { fetch } = window;
  window.fetch = (address, options) => {
    const answer = fetch(address, options);
    if (!/still|cutout|judgement/.test(address)) return answer;
    add("preview");
    return answer.finally(() => now.preview--);
  };
  const { send } = XMLHttpRequest.prototype;
  XMLHttpRequest.prototype.send = function (body) {
    add("upload");
    this.addEventListener("readystatechange", () => {
      if (this.readyState === XMLHttpRequest.DONE) now.upload -= 1;
    });
    send.call(this, body);
  };
"""

# Notes what is announced.
SAID = """
  window.said = [];
  const live = document.getElementById("live");
  new MutationObserver(() => said.push(live.textContent)).observe(
    live, { childList: true, characterData: true, subtree: true });
"""


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Any]) -> Iterator[Any]:
    with closing(launch("--disable-gpu")) as browser:
        yield browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("page") / "work") as server:
        yield server


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Starts servers, and ends those that are left when a test fails."""
    made: list[Served] = []

    def serve(*args: Any) -> Served:
        made.append(Served(*args))
        return made[-1]

    yield serve
    for server in made:
        if server.process.returncode is None:
            server.end()


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Page]:
    """The page in a new profile, whose clips are removed at the end."""
    with opened(browser, served.address) as page:
        yield page
        page.on("dialog", lambda dialog: dialog.accept())
        cards = page.locator(".card")
        while left := cards.count():
            cards.first.get_by_role("button", name="Remove").click()
            expect(cards).to_have_count(left - 1)


def draw(path: Path, rounds: int) -> Path:
    """The demo clip, small and several times over, so that it can be disturbed."""
    frames = [frame[::2, ::2] for frame in decode(CLIP)]
    return make_clip(path, frames * rounds, options={"preset": "ultrafast"})


def choose(page: Page, **boxes: bool) -> None:
    for name, wanted in boxes.items():
        page.locator(f"#common [name={name}]").set_checked(wanted)


def choose_fast(page: Page) -> None:
    page.locator("#common").get_by_label("Fast").check()


def start(page: Page) -> None:
    page.locator(".card .start:visible").first.click()


def is_under_way(page: Page) -> None:
    expect(page.locator(".eta").first).to_contain_text("of ", timeout=LONG)


def canvas(page: Page) -> Any:
    """The colours near both ends of the canvas."""
    return page.locator(".compare canvas").evaluate(
        """canvas => [9, canvas.width - 9].map(x => {
            const { data } = canvas.getContext("2d").getImageData(x, 30, 1, 1);
            return Array.from(data.slice(0, 3));
        })"""
    )


def test_from_a_video_to_a_download_by_clicks(page: Page, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a clip.mp4", 12, size=(160, 120), sound=True)
    upload(page, clip)
    expect(page.locator("h3")).to_have_text("a clip.mp4")
    expect(page.locator(".facts")).to_have_text(
        re.compile("160.120, 25 frames/s, 0.5 s")
    )
    page.locator(".card .stage").scroll_into_view_if_needed()
    expect(page.locator(".card .busy")).to_be_hidden(timeout=LONG)
    choose_fast(page)
    page.locator("#common [name=format]").select_option("webm")
    page.locator("#common [name=tint]").fill("#ff0000")
    start(page)
    is_state(page, "done")
    expect(page.locator("#live")).to_have_text("a clip.mp4: Done")
    for name, file in {
        "Transparent .webm": "a clip_cutout.webm",
        "Over background .mp4": "a clip_composition.mp4",
    }.items():
        with page.expect_download() as caught:
            page.get_by_role("link", name=name).click()
        assert caught.value.suggested_filename == file
        caught.value.save_as(tmp_path / file)
        assert len(decode(tmp_path / file)) == 12
    # No one is in it, so after is red all over and before the gray of the clip.
    expect(page.locator(".compare canvas")).to_have_attribute(
        "data-drawn", re.compile(".")
    )
    end = time.monotonic() + 30
    while (colours := canvas(page))[1][0] < 200 and time.monotonic() < end:
        time.sleep(0.1)
    left, right = colours
    assert right[0] > 200 > 60 > right[1]
    assert max(left) < 60
    # The slider by keyboard: only before, and then only after.
    page.get_by_label("How much of the original").press("End")
    assert max(canvas(page)[1]) < 60
    page.get_by_label("How much of the original").press("Home")
    assert canvas(page)[0][0] > 200
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_an_image_behind_and_a_refused_file(page: Page, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all\n" * 100)
    page.set_input_files("#files", [str(tmp_path / "text.mp4")])
    expect(page.locator(".uploads .failed")).to_contain_text(
        re.compile(r"Not a video or image that FFmpeg can read; .*name\."), timeout=LONG
    )
    page.locator(".uploads button").click()
    expect(page.locator(".uploads li")).to_have_count(0)
    upload(page, make_clip(tmp_path / "clip.mp4", 3))
    choose(page, clear=False, mp4=False)
    start(page)
    expect(page.locator(".card .refused")).to_contain_text("at least one")
    choose(page, mp4=True)
    Image.new("RGB", (8, 8), (0, 0, 255)).save(tmp_path / "blue.png")
    page.set_input_files("#common [name=upload]", str(tmp_path / "blue.png"))
    added = page.locator("#common").get_by_role("radio", name="blue.png")
    expect(added).to_be_checked(timeout=LONG)
    expect(page.locator(".card .behind")).to_be_visible()
    page.locator("#common").get_by_label("Dusk").check()
    expect(page.locator(".card .behind")).to_have_attribute("src", re.compile("dusk"))
    page.get_by_role("button", name="Remove the background").first.click()
    expect(added).to_have_count(0)
    page.set_input_files("#common [name=upload]", str(tmp_path / "text.mp4"))
    picked = page.locator("#common .picked")
    expect(picked).to_contain_text("text.mp4: Not a video", timeout=LONG)
    expect(picked).to_have_class(re.compile("failed"))
    page.locator("#common").get_by_label("Studio").check()
    expect(picked).to_be_empty()


def test_cancel_reload_and_languages(page: Page, tmp_path: Path) -> None:
    upload(page, draw(tmp_path / "long.mp4", 12))
    choose(page, clear=False)
    start(page)
    is_under_way(page)
    page.reload()
    is_under_way(page)
    is_state(page, "running")
    expect(page).to_have_title(re.compile(r"\d+ % · rematte"))
    page.get_by_role("button", name="中文").click()
    expect(page.locator(".badge")).to_have_text("进行中")
    page.reload()
    expect(page.locator(".badge")).to_have_text("进行中")
    page.get_by_role("button", name="English").click()
    page.get_by_role("button", name="Cancel").click()
    is_state(page, "cancelled")
    expect(page.get_by_role("button", name="Start this one")).to_be_visible()
    start(page)
    is_under_way(page)
    page.get_by_role("button", name="Cancel").click()
    is_state(page, "cancelled")


def test_the_old_result_stays_until_the_new_one(page: Page, tmp_path: Path) -> None:
    upload(page, draw(tmp_path / "clip.mp4", 2))
    choose(page, clear=False, mp4=False, alpha=True)
    choose_fast(page)
    start(page)
    is_state(page, "done")
    expect(page.locator(".previous")).to_be_hidden()
    page.get_by_text("Convert again").click()
    choose(page, mp4=True, alpha=False)
    start(page)
    is_under_way(page)
    expect(page.locator(".previous")).to_be_visible()
    with page.expect_download() as caught:
        page.get_by_role("link", name="Alpha .mp4").click()
    assert caught.value.failure() is None
    page.get_by_role("button", name="Cancel").click()
    is_state(page, "cancelled")
    expect(page.get_by_role("link", name="Alpha .mp4")).to_be_visible()
    start(page)
    is_state(page, "done")
    expect(page.get_by_role("link", name="Over background .mp4")).to_be_visible()
    page.get_by_text("Earlier results").click()
    with page.expect_download() as caught:
        page.locator(".earlier").get_by_role("link", name="Alpha .mp4").click()
    assert caught.value.failure() is None
    expect(page.locator(".earlier span")).to_have_text("Fast")
    page.get_by_role("button", name="中文").click()
    expect(page.locator(".earlier span")).to_have_text("快速")
    page.get_by_role("button", name="English").click()


def test_clicks_do_not_wait_for_previews_or_uploads(page: Page, tmp_path: Path) -> None:
    """A browser has six connections to a server; what loads by itself takes four."""
    page.add_init_script(COUNT)
    page.reload()
    clips = [make_clip(tmp_path / f"{n}.mp4", 3, size=(160, 120)) for n in range(8)]
    page.set_input_files("#files", [str(clip) for clip in clips])
    expect(page.locator(".card").first).to_be_visible(timeout=LONG)
    with page.expect_response(lambda answer: answer.url.endswith("/start")) as caught:
        start(page)
    assert caught.value.status == 204
    expect(page.locator(".card")).to_have_count(8, timeout=LONG)
    # Previews are made of what is in sight, so nothing may move meanwhile.
    expect(page.locator(".card[data-state=done]")).to_have_count(1, timeout=LONG)
    for index in range(7):
        stage = page.locator(".stage:visible").nth(index)
        stage.scroll_into_view_if_needed()
        expect(stage.locator(".busy")).to_be_hidden(timeout=LONG)
    assert page.evaluate("most") == {"preview": 2, "upload": 2}


def test_previews_in_sight_do_not_wait_for_others(page: Page, tmp_path: Path) -> None:
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url))
    clips = [make_clip(tmp_path / f"{n}.mp4", 3, size=(160, 120)) for n in range(5)]
    upload(page, *clips)
    last = page.locator(".card").last
    last.locator(".stage").scroll_into_view_if_needed()
    expect(last.locator(".busy")).to_be_hidden(timeout=LONG)
    assert 1 <= len([url for url in asked if url.endswith("/cutout")]) < 5


def test_the_keyboard_keeps_its_place(page: Page, tmp_path: Path) -> None:
    upload(page, make_clip(tmp_path / "clip.mp4", 2))
    choose_fast(page)
    page.locator(".card .start").press("Enter")
    is_state(page, "done")
    expect(page.locator("h3")).to_be_focused()
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator(".remove").press("Enter")
    expect(page.locator("#files")).to_be_focused()


def test_choices_last_and_a_clip_may_differ(page: Page, tmp_path: Path) -> None:
    photo, clip = tmp_path / "me.png", make_clip(tmp_path / "clip.mp4", 2)
    Image.new("RGB", (40, 30), (90, 60, 200)).save(photo)
    upload(page, clip)
    upload(page, photo)
    cards = page.locator(".card")
    newest, oldest = cards.nth(0).locator(".plan"), cards.nth(1).locator(".plan")
    expect(newest).to_contain_text("Transparent .png, Over background .jpg")
    page.get_by_label("For", exact=True).first.select_option("web")
    expect(page.locator("#common .makes")).to_contain_text("Chrome")
    expect(page.locator("#common .outputs")).to_be_hidden()
    expect(newest).to_have_text(re.compile("^Transparent .webp · Balanced"))
    choose_fast(page)
    page.reload()
    expect(oldest).to_have_text(re.compile("^Transparent .webm · Fast"))
    cards.nth(1).get_by_text("Other choices").click()
    cards.nth(1).get_by_label("For", exact=True).select_option("slides")
    expect(oldest).to_have_text(re.compile("^Over background .mp4 · Fast"))
    page.reload()
    expect(oldest).to_have_text(re.compile("^Over background .mp4 · Fast"))
    expect(newest).to_have_text(re.compile("^Transparent .webp · Fast"))
    cards.nth(1).get_by_text("choices of its own").click()
    cards.nth(1).get_by_role("button", name="The same as for all").click()
    expect(oldest).to_have_text(re.compile("^Transparent .webm · Fast"))
    page.get_by_role("button", name="Start all 2").press("Enter")
    expect(page.locator(".card[data-state=done]")).to_have_count(2, timeout=LONG)
    links = page.locator(".downloads a")
    for number, kind in enumerate(("webp", "webm")):
        made = re.compile(rf"Transparent \.{kind} · [1-9][\d.]*\u00a0(KB|bytes)")
        expect(links.nth(number)).to_have_text(made)
    with page.expect_download() as caught:
        page.get_by_role("link", name="Download all 2").click()
    assert caught.value.suggested_filename == "rematte.zip"
    with zipfile.ZipFile(caught.value.path()) as archive:
        assert sorted(archive.namelist()) == ["clip_cutout.webm", "me_cutout.webp"]
    # What a clip took before is what the next one is expected to take.
    upload(page, clip)
    expect(page.locator("#common .estimate")).to_contain_text("on this machine")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Clear 2 finished").click()
    expect(cards).to_have_count(1)


def test_what_is_started_together_goes_from_the_top(page: Page, tmp_path: Path) -> None:
    photo, clip = tmp_path / "me.png", make_clip(tmp_path / "clip.mp4", 2)
    Image.new("RGB", (40, 30), (90, 60, 200)).save(photo)
    for path in (clip, clip, photo):
        upload(page, path)
    legends = page.locator(".look > legend")
    expect(legends.nth(0)).to_have_text("Choose who is cut out")
    expect(legends.nth(1)).to_have_text("Look at a moment, and choose who is cut out")
    choose_fast(page)
    page.evaluate(SAID)
    page.get_by_role("button", name="Start all 3").press("Enter")
    expect(page.locator(".card[data-state=done]")).to_have_count(3, timeout=LONG)
    said = page.evaluate("said")
    assert "3 clips were started." in said
    assert not [text for text in said if text.endswith("Waiting")]
    # A clip may be done before the page hears that it runs.
    first = [
        next(at for at, text in enumerate(said) if text.startswith(f"{name}: "))
        for name in ("me.png", "clip.mp4")
    ]
    assert first == sorted(first)
    expect(page.locator(".card").nth(1).locator(".player")).to_be_visible(timeout=LONG)
    expect(page.locator(".card").nth(1).locator(".mute")).to_be_hidden()  # no sound


def test_slides_are_white_until_a_colour_is_chosen(page: Page, tmp_path: Path) -> None:
    upload(page, make_clip(tmp_path / "clip.mp4", 2))
    receiver = page.get_by_label("For", exact=True).first
    tint = page.locator("#common [name=tint]")
    for colours in ("#ffffff", "#78ff9b"), ("#ffffff", "#ffffff"):
        for name, colour in zip(("slides", ""), colours, strict=True):
            receiver.select_option(name)
            expect(tint).to_have_value(colour)
            page.reload()
            expect(tint).to_have_value(colour)
        tint.fill("#ffffff")


def test_a_background_is_added_during_choices(page: Page, tmp_path: Path) -> None:
    upload(page, make_clip(tmp_path / "clip.mp4", 2))
    Image.new("RGB", (8, 8), (0, 0, 255)).save(tmp_path / "blue.png")
    held: list[Any] = []
    page.route("**/api/backgrounds?*", lambda route: held.append(route))
    page.set_input_files("#common [name=upload]", str(tmp_path / "blue.png"))
    picked = page.locator("#common .picked")
    choose(page, alpha=True)
    expect(picked).to_have_text("Adding blue.png…")
    held[0].continue_()
    expect(picked).to_be_empty(timeout=LONG)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("my clip.mp4: not a video", "Not a video."),
        ("my clip.mp4 is queued already", "my clip.mp4 is queued already."),
        ("my clip_alpha.mp4: no sound", "my clip_alpha.mp4: no sound."),
        ("mystery, or not!", "Mystery, or not!"),
    ],
)
def test_names_stay_as_they_are(page: Page, text: str, said: str) -> None:
    code = "async text => (await import('./words.js')).sentence(text, 'my clip.mp4')"
    assert page.evaluate(code, text) == said


def test_tabs_share_one_connection(page: Page, tmp_path: Path) -> None:
    tabs = [page.context.new_page() for _ in range(8)]  # a browser has six connections
    for tab in tabs:
        tab.goto(page.url)
    upload(page, make_clip(tmp_path / "clip.mp4", 2))
    for tab in tabs:
        expect(tab.locator("h3")).to_have_text("clip.mp4")
    for tab in tabs:
        tab.close()
    expect(page.locator("#offline")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, tmp_path: Path, scheme: str) -> None:
    require([] if AXE.exists() else ["axe-core"], "web")
    page.set_viewport_size({"width": 320, "height": 740})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]

    def check() -> None:
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate("axe.run().then((found) => found.violations)")
        assert not found, [(each["id"], each["nodes"][0]["html"]) for each in found]
        assert page.evaluate("document.documentElement.scrollWidth") <= 320

    check()
    upload(page, make_clip(tmp_path / "clip.mp4", 2))
    page.get_by_text("Other choices").click()
    check()
    page.get_by_role("button", name="中文").click()
    choose(page, clear=False)
    start(page)
    is_state(page, "done")
    expect(page.locator(".player")).to_be_visible(timeout=LONG)
    check()
    page.get_by_role("button", name="English").click()


def test_the_page_is_small() -> None:
    static = ROOT / "rematte/serve/static"
    files = [path for path in static.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000


def test_errors_are_sentences_of_the_page(
    browser: Any, serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(tmp_path / "work")
    page = browser.new_page()
    page.goto(served.address)
    upload(page, make_clip(tmp_path / "clip.mp4", 2))
    served.end(signal.SIGKILL)
    start(page)
    expect(page.locator(".card .refused")).to_have_text("The connection was lost.")
    page.set_input_files("#files", str(tmp_path / "clip.mp4"))
    expect(page.locator(".uploads .failed")).to_contain_text("The connection was lost.")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator("#offline")).to_be_in_viewport()
    serve(served.folder, served.port)
    # What concerned the lost connection goes, and the file needs not be chosen again.
    expect(page.locator(".card .refused")).to_be_hidden(timeout=LONG)
    page.locator(".uploads").get_by_role("button", name="Try again").click()
    expect(page.locator(".card")).to_have_count(2, timeout=LONG)
    expect(page.locator(".uploads li")).to_have_count(0)
    page.close()
