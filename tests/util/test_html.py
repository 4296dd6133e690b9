"""The page opens in a real browser with every image in place, whatever the names, and stays quick when it is long."""
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from duiit.util import chart
from duiit.util.html import HTML
from duiit.util.visualizer import save_images

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000",
]  # fmt: skip
# Written into the page's title once the images are loaded: how many there are, how many came, and the page's overflow.
REPORT = """<script>addEventListener("load",()=>{const i=[...document.images];i.forEach(x=>x.loading="eager");
setTimeout(()=>{document.title=[i.length,i.filter(x=>x.naturalWidth>0).length,
document.documentElement.scrollWidth>innerWidth].join(" ")},800)})</script>"""


def visuals(labels=("real_A", "fake_B", "rec_A")) -> dict:
    return {label: torch.rand(2, 1, 8, 8) * 2 - 1 for label in labels}


def sources(page: Path) -> list[Path]:
    return [page.parent / unquote(url) for url in re.findall(r'src="([^"]+)"', page.read_text("utf-8"))]


def test_images_of_any_name_are_found(tmp_path):
    page = HTML(tmp_path / "web", "Größe <1>")
    for name in ("Pat 1/slice #2", "Пациент/100%", "a?b&c", 'quo"te'):
        save_images(page, visuals(), [f"/data/{name}.png"], name=name)
    page.save()
    found = sources(tmp_path / "web" / "index.html")
    assert len(found) == 12
    assert all(path.is_file() for path in found)
    text = (tmp_path / "web" / "index.html").read_text("utf-8")
    assert "<h1>Größe &lt;1&gt;</h1>" in text
    assert "http://" not in text.replace('http-equiv', "") and "https://" not in text


def test_equal_stems_do_not_collide(tmp_path):
    page = HTML(tmp_path, "t")
    for folder in ("patA", "patB"):
        save_images(page, visuals(("fake_B",)), [f"/d/{folder}/001.png"])
    save_images(page, visuals(("fake_B",)), ["x/1.2.840.7"])  # a DICOM file without a suffix keeps its whole name
    save_images(page, visuals(("fake_B",)), ["x/scan.nii.gz"])
    page.save()
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        "001_2_fake_B.png", "001_fake_B.png", "1.2.840.7_fake_B.png", "scan_fake_B.png",
    ]  # fmt: skip


def test_the_chosen_image_of_a_batch_is_shown(tmp_path):
    from PIL import Image

    batch = {"real_A": torch.stack([torch.full((1, 4, 4), -1.0), torch.full((1, 4, 4), 1.0)])}
    page = HTML(tmp_path, "t")
    for index, path in enumerate(["a.png", "b.png"]):
        save_images(page, batch, ["a.png", "b.png"], index=index)
        assert np.asarray(Image.open(tmp_path / "images" / f"{path[0]}_real_A.png")).max() == 255 * index


def test_upstreams_calls(tmp_path):
    page = HTML(tmp_path, "t", refresh=5)
    page.add_header("epoch [1]")
    page.add_images(["a.png"], ["a"], ["a.png"], width=256)
    page.save()
    text = (tmp_path / "index.html").read_text()
    assert page.get_image_dir() == str(tmp_path / "images")
    assert 'content="5"' in text
    assert "epoch [1]" in text


def test_tables_and_text_are_escaped(tmp_path):
    page = HTML(tmp_path, "t")
    page.add_table([{"method": "<b>", "MAE": np.float32(7.12345), "n": 3}, {"method": "x", "MAE": 8.0}])
    page.add_table([["a", None]], header=["k", "v"])
    page.add_text("5 < 6")
    text = page.render()
    assert "&lt;b&gt;" in text
    assert '<td class="number">7.123</td>' in text
    assert '<td class="number">3</td>' in text
    assert "5 &lt; 6" in text


def test_saving_a_long_page_again_is_quick(tmp_path):
    """A page is rendered as it is filled: what is saved every few minutes must not grow with the run."""
    page = HTML(tmp_path, "t")
    for i in range(300):
        page.add_header(f"Epoch {i}")
        page.add_images([f"{i}_{k}.png" for k in range(8)], list("abcdefgh"), [f"{i}_{k}.png" for k in range(8)])
    start = time.perf_counter()
    for _ in range(10):
        page.save()
    assert time.perf_counter() - start < 1.0


def test_chart_leaves_out_what_is_not_finite():
    curves = {"G_A": [1.0, float("nan"), 3.0], "dead": [float("inf")] * 3, "one": [2, 2, 2]}
    text = chart.panels([1, 2, 3], curves, "step")
    assert "G_A (1 values not finite)" in text
    assert "dead (3 values not finite)" in text
    assert "nan" not in text
    assert text.count("<svg class") == 3


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e-9, 1e9], [-5.0, 5.0], [7.0], [1e99, 1e-300], [0.2 + 3e-17, 0.2]])
def test_chart_of_any_range_has_an_axis(values):
    text = chart.panels(list(range(len(values))), {"x": values}, "step")
    assert 1 <= text.count('class="grid"') <= 8
    assert "nan" not in text
    assert "inf" not in text


def test_long_histories_are_averaged():
    x = np.arange(20_000)
    text = chart.panels(x, {"a": np.sin(x / 900) + 2}, "step")
    assert 'class="band"' in text
    assert len(text) < 20_000


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_browser_shows_every_image(tmp_path):
    page = HTML(tmp_path / "web ü", "Results")
    for name in ("Pat 1/slice #2", "Пациент/100%", "plain"):
        save_images(page, visuals(), [name], name=name)
    page.add_html(chart.panels([1, 2], {"G_A": [1.0, 2.0]}, "step") + REPORT)
    page.save()
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    address = (tmp_path / "web ü" / "index.html").as_uri()
    command = [CHROMIUM, *FLAGS, profile, "--window-size=500,800", "--dump-dom", address]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert re.search(r"<title>(.*?)</title>", dom)[1] == "9 9 false"
