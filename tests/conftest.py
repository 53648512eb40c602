"""What tests of several packages need: tiny contract files, clips, real data, a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from deblurgan.runtime.contract import INPUT, OUTPUT, ModelCard
from deblurgan.runtime.errors import DeblurError
from deblurgan.runtime.tensorrt.bindings import find_bindings
from deblurgan.runtime.tensorrt.builder import check_targets
from deblurgan.runtime.tensorrt.device import find_device

# A slow disk, or the other file of tests, is no fault of what is tested.
settings.register_profile("without a clock", settings(), deadline=None)
settings.load_profile("without a clock")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real clips, pictures and weights; users have none, so tests that want them skip."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared with real data beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def gpu_bindings() -> Any:
    """A TensorRT that runs on the GPU that is here."""
    device = find_device()
    if device is None:
        pytest.skip("no GPU")
    pytest.importorskip("pycuda")
    try:
        bindings = find_bindings()
        if bindings.is_rtx:
            check_targets(bindings.trt, (device.architecture,))
    except DeblurError as error:
        pytest.skip(error.found)
    return bindings


@pytest.fixture(scope="session")
def card() -> ModelCard:
    return ModelCard(
        generator={"name": "negative", "settings": {}},
        stride=4,
        minimum_size=16,
        precision="fp32",
        weights_sha256="0" * 64,
    )


@pytest.fixture(scope="session")
def write_negative(card: ModelCard) -> Callable[..., Path]:
    """Writes a contract file that turns frames into their negative (255 - x)."""
    onnx = pytest.importorskip("onnx")

    def write(
        path: Path, size: tuple[int, int] | None = None, metadata: dict[str, str] | None = None
    ) -> Path:
        width, height = size or ("width", "height")
        shape = ["batch", height, width, 3]
        uint8, number = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            [
                onnx.helper.make_node("Cast", [INPUT], ["x"], to=number),
                onnx.helper.make_node("Sub", ["white", "x"], ["y"]),
                onnx.helper.make_node("Cast", ["y"], [OUTPUT], to=uint8),
            ],
            "negative",
            [onnx.helper.make_tensor_value_info(INPUT, uint8, shape)],
            [onnx.helper.make_tensor_value_info(OUTPUT, uint8, shape)],
            [onnx.helper.make_tensor("white", number, [], [255.0])],
        )
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
        )
        onnx.helper.set_model_props(model, card.to_metadata() if metadata is None else metadata)
        onnx.save(model, path)
        return path

    return write


@pytest.fixture(scope="session")
def negative(write_negative: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_negative(tmp_path_factory.mktemp("model") / "negative.onnx")


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A made picture with edges, colours and gradients, RGB ``[96, 160, 3]``."""
    y, x = np.mgrid[:96, :160]
    planes = [x * 255 / 159, y * 255 / 95, 127 + 127 * np.sin((x + 2 * y) / 6)]
    picture = np.stack(planes, -1)
    picture[20:40, 30:60] = (250, 30, 20)
    picture[50:80, 90:130] = (10, 240, 250)
    return picture.astype(np.uint8)


@pytest.fixture(scope="session")
def pairs(photo: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pairs of 64x64 pixels, blurred sideways, as ``blur/`` and ``sharp/``."""
    folder = tmp_path_factory.mktemp("data") / "pairs"
    for name in ("blur", "sharp"):
        (folder / name).mkdir(parents=True)
    for index in range(10):
        sharp = np.roll(photo, 13 * index, 1)[20:84, :64, ::-1]
        cv2.imwrite(str(folder / "sharp" / f"{index}.png"), sharp)
        cv2.imwrite(str(folder / "blur" / f"{index}.png"), cv2.blur(sharp, (5, 1)))
    return folder


@pytest.fixture(scope="session")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict with torchvision's keys up to conv3_3, random in He's scale."""
    torch = pytest.importorskip("torch")
    convolutions = pytest.importorskip("deblurgan.train.vgg").CONVOLUTIONS
    random = torch.Generator().manual_seed(3)
    weights = {}
    for index, (inputs, outputs) in convolutions.items():
        shape, scale = (outputs, inputs, 3, 3), (2 / (9 * inputs)) ** 0.5
        weights[f"features.{index}.weight"] = scale * torch.randn(shape, generator=random)
        weights[f"features.{index}.bias"] = torch.zeros(outputs)
    path = tmp_path_factory.mktemp("weights") / "vgg.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="session")
def make_clip(photo: NDArray[np.uint8]) -> Callable[..., Path]:
    """Writes a clip of ``photo`` moving sideways, as :func:`write_clip` says."""

    def make(path: Path, picture: NDArray[np.uint8] = photo, **settings: Any) -> Path:
        return write_clip(path, picture, **settings)

    return make


def write_clip(
    path: Path,
    photo: NDArray[np.uint8],
    *,
    times: list[int] | None = None,
    time_base: Fraction = Fraction(1, 15360),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    sound: bool = False,
    subtitles: bool = False,
    tags: tuple[int, int, int, int] = (2, 0, 2, 2),
    rotation: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """A clip whose frames are shown at ``times`` (ticks of ``time_base``); ``tags``
    are matrix, range, primaries and transfer.
    """
    times = times or [512 * i for i in range(12)]
    with av.open(str(path), "w") as output:
        if options is None and codec == "libx264":
            options = {"bf": "2"}
        stream = output.add_stream(codec, rate=Fraction(30), options=options)
        context = stream.codec_context
        stream.height, stream.width = photo.shape[:2]
        stream.pix_fmt = pixel_format
        context.time_base = stream.time_base = time_base
        context.colorspace, context.color_range = tags[0], tags[1]
        context.color_primaries, context.color_trc = tags[2], tags[3]
        if rotation:
            stream.set_display_rotation(rotation)
        tone = output.add_stream("aac", rate=48000, layout="stereo") if sound else None
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.roll(photo, 3 * index, 1), format="rgb24")
            frame = frame.reformat(format=pixel_format)
            frame.pts, frame.time_base = time, time_base
            frame.colorspace, frame.color_range = tags[0], tags[1]
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if tone is not None:
            samples = 48000 * round(float(times[-1] * time_base) * 20 + 1) // 20
            wave = np.sin(np.arange(samples) * 0.06).astype(np.float32) * 0.2
            sound_frame = av.AudioFrame.from_ndarray(
                np.stack([wave, wave]), format="fltp", layout="stereo"
            )
            sound_frame.sample_rate, sound_frame.pts = 48000, 0
            output.mux(tone.encode(sound_frame))
            output.mux(tone.encode(None))
    if subtitles:
        add_subtitles(path)
    return path


def add_subtitles(path: Path) -> None:
    """Put a text track into a clip; PyAV copies subtitle streams but encodes none."""
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,050 --> 00:00:00,200\nHello\n\n")
    whole = path.with_name("with-subtitles" + path.suffix)
    with av.open(str(path)) as clip, av.open(str(text)) as words, av.open(str(whole), "w") as out:
        copies = {s: out.add_stream_from_template(s) for s in (*clip.streams, *words.streams)}
        for container in (clip, words):
            for packet in container.demux():
                if packet.size:  # the last one of each stream is empty
                    packet.stream = copies[packet.stream]
                    out.mux(packet)
    whole.replace(path)


# Pages

# It looks for updates otherwise, and starts no sandbox as root.
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-quic"]  # fmt: skip


# Playwright keeps an event loop running as long as it is open, which asyncio.run refuses.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine to look at the page with")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        running.close()


# Of every text the contrast to what is behind it, as WCAG 2 reckons; over pictures
# there is no one colour behind it.
CONTRASTS = """() => {
  const channels = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => channels(c).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (channels(c).length < 4) return c;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.body.querySelectorAll("*")]
    .filter(e => !e.closest(".stack, script, style")
      && [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()))
    .map(e => {
      const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.slice(0, 40)];
    });
}"""


@dataclass(frozen=True)
class Looked:
    """A page as a browser of a width and a colour scheme shows it: what it complained of and
    asked for, the widths of the images themselves and of the page, and every text's contrast.
    """

    width: int
    scheme: str
    complaints: list[str]
    elsewhere: list[str]
    widths: list[int]
    page_width: int
    background: str
    contrasts: list[tuple[float, str]]

    def check(self) -> None:
        assert self.complaints == []
        assert self.elsewhere == []
        assert 0 not in self.widths
        assert self.page_width <= self.width
        is_dark = max(map(int, re.findall(r"\d+", self.background))) < 60
        assert is_dark == (self.scheme == "dark")
        assert [found for found in self.contrasts if found[0] < 4.5] == []


@pytest.fixture
def look(browser: Any, tmp_path: Path) -> Callable[[str, int, str], Looked]:
    """Shows a page in a window of a width, in the colour scheme light or dark."""

    def show(html: str, width: int, scheme: str) -> Looked:
        file = tmp_path / "page.html"
        file.write_text(html)
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page, complaints, requests = context.new_page(), [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true })")
        looked = Looked(
            width,
            scheme,
            complaints,
            [url for url in requests if not url.startswith("data:") and url != file.as_uri()],
            page.evaluate("[...document.images].map(image => image.naturalWidth)"),
            page.evaluate("document.documentElement.scrollWidth"),
            page.evaluate("getComputedStyle(document.body).backgroundColor"),
            page.evaluate(CONTRASTS),
        )
        context.close()
        return looked

    return show


@pytest.fixture
def move_slider(browser: Any, tmp_path: Path) -> Callable[[str, str], tuple[str, str]]:
    """How a page's second picture is clipped before and after the slider is moved."""

    def move(html: str, to: str) -> tuple[str, str]:
        file = tmp_path / "page.html"
        file.write_text(html)
        page = browser.new_page(viewport={"width": 800, "height": 900})
        page.goto(file.as_uri())
        clip = "getComputedStyle(document.querySelector('.after')).clipPath"
        before = page.evaluate(clip)
        page.locator(".slider input").fill(to)
        after = page.evaluate(clip)
        page.close()
        return before, after

    return move


class Elements(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def elements() -> type[Elements]:
    return Elements
