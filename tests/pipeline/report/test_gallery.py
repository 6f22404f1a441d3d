"""The gallery: kinds of error, picture files, and its script in a real browser."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.report import page as report
from pipeline.report.gallery import (
    Gallery,
    Shown,
    error_by_names,
    kind_of_error,
    label_layer,
    map_layer,
)
from pipeline.report.pictures import class_colours

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
    "DwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.mark.parametrize(
    ("counts", "kind"),
    [
        ([[90, 0, 0], [8, 1, 1], [0, 0, 0]], "missed"),
        ([[90, 1, 0], [1, 3, 5], [0, 0, 0]], "wrong name"),
        ([[80, 9, 5], [0, 6, 0], [0, 0, 0]], "leak"),
        ([[899, 1, 0], [0, 100, 0], [0, 0, 0]], "good"),
    ],
)
def test_the_kind_of_error_is_that_of_most_wrong_pixels(counts, kind):
    assert kind_of_error(np.array(counts)) == kind


@pytest.mark.parametrize(
    ("row", "named", "kind"),
    [
        ([0] * 99 + [255], [1], "empty"),
        ([0] * 100, [], "as named"),
        ([0] * 90 + [2] * 10, [1], "named, not found"),
        ([0] * 97 + [1, 2, 2], [1], "not named"),
        ([0] * 98 + [1, 2], [1], "as named"),
    ],
)
def test_the_image_label_tells_an_error_without_ground_truth(row, named, kind):
    assert error_by_names(np.array([row], np.uint8), named) == kind


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")).astype(int)


def test_a_label_layer_is_transparent_in_the_background_and_striped_in_void():
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 10:20], labels[:, 20:] = 2, 255

    layer = opened(label_layer(labels, 3))

    assert (layer[:, :10, 3] == 0).all()
    assert (layer[:, 10:20] == [*class_colours(2)[1], 255]).all()
    assert len(np.unique(layer[:, 20:].reshape(-1, 4), axis=0)) == 2
    assert (layer[:, 20:, 3] == 255).all()


def test_a_large_label_layer_is_made_smaller_and_keeps_its_colours():
    labels = np.zeros((10, 1600), np.uint8)
    labels[:, 800:] = 1

    layer = opened(label_layer(labels, 1))

    assert layer.shape == (5, 800, 4)
    assert len(np.unique(layer.reshape(-1, 4), axis=0)) == 2


def test_a_map_layer_is_transparent_at_zero_and_solid_at_its_maximum():
    layer = opened(map_layer(np.array([[0.0, 0.25, 1.0]])))

    assert layer[0, :, 3].tolist() == [0, 128, 255]


def page_with(count):
    kinds = ("missed", "good")
    images = [
        Shown(
            f"{index:04d}", "val" if index % 4 else "train", [("cat", "dog")[index % 2]],
            {"photo": PIXEL, "segmenter": PIXEL, "ground truth": PIXEL},
            {"mIoU": (index * 37 % count) / count, "disagreement": None}, kinds[index % 3 == 0],
        )
        for index in range(count)
    ]  # fmt: skip
    legend = report.legend(["cat", "dog"])
    pictures = report.Pictures(Gallery(images, "", "mIoU"), legend)
    return report.render(report.Page("x", "runs/x", "today", [report.Section("P", [pictures])]))


CARDS = "[...document.querySelectorAll('.photo code')].map(node => node.textContent)"
CHOOSE = (
    "const choose = (id, value) => { const node = document.getElementById(id); node.value = value; "
    "node.dispatchEvent(new Event(node.type === 'search' ? 'input' : 'change')); };"
)


def test_images_are_sorted_filtered_and_searched(browse):
    count = 40
    score = {f"{index:04d}": index * 37 % count for index in range(count)}
    worst_first = sorted(score, key=score.__getitem__)

    found = browse(
        page_with(count),
        f"{CHOOSE} const read = () => {CARDS}; const found = {{ all: read() }}; "
        "document.getElementById('reverse').click(); found.reversed = read(); "
        "document.getElementById('reverse').click(); "
        "choose('split', 'train'); found.train = read(); choose('split', ''); "
        "choose('class', 'dog'); choose('kind', 'good'); found.both = read(); "
        "choose('class', ''); choose('kind', ''); choose('search', '003'); found.part = read(); "
        "choose('search', ''); choose('sort', ''); found.listed = read(); return found;",
    )

    assert found["all"] == worst_first
    assert found["reversed"] == worst_first[::-1]
    assert found["train"] == [name for name in worst_first if int(name) % 4 == 0]
    assert found["both"] == [n for n in worst_first if int(n) % 2 == 1 and int(n) % 3 == 0]
    assert found["part"] == [name for name in worst_first if "003" in name]
    assert found["listed"] == sorted(score)


def test_a_card_shows_the_number_that_images_are_sorted_by(browse):
    found = browse(
        page_with(4),
        f"{CHOOSE} const read = () => {{ const card = document.querySelector('.photo'), "
        "name = card.querySelector('.number'); return [name.offsetWidth > 0, name.textContent, "
        "name.nextSibling.textContent]; }; const found = [read()]; "
        "choose('sort', 'disagreement'); found.push(read()); return found;",
    )

    assert found == [[True, "mIoU", "0.0 %"], [True, "disagreement", "-"]]


def test_an_address_that_was_cut_opens_no_image(browse):
    opened = browse(page_with(2), "return document.getElementById('viewer').open;", "#image=val%2")

    assert not opened


def test_an_image_opens_by_its_address_and_its_layers_switch_by_keys(browse):
    found = browse(
        page_with(8),
        "const viewer = document.getElementById('viewer'); const press = key => "
        "viewer.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true })); "
        "const pressed = () => [...document.querySelectorAll('#layers button')]"
        ".findIndex(node => node.getAttribute('aria-pressed') === 'true'); "
        "const name = () => document.getElementById('name').textContent; "
        "const wait = () => new Promise(done => setTimeout(done, 300)); "
        "const found = { open: viewer.open, name: name(), first: pressed() }; "
        "press('2'); found.second = pressed(); press('0'); found.photo = pressed(); "
        "found.pictures = document.querySelectorAll('#large img').length; "
        "const zoom = () => document.getElementById('large').style.getPropertyValue('--zoom'); "
        "press('+'); found.zoom = [zoom()]; press('ArrowLeft'); await wait(); found.next = name(); "
        "found.zoom.push(zoom()); "
        "found.legend = [...viewer.querySelectorAll('.legend li')].map(node => node.textContent); "
        "document.getElementById('close').click(); await wait(); found.closed = !viewer.open; "
        "found.hash = location.hash; return found;",
        "#image=val%2F0003",
    )

    assert found == {
        "open": True, "name": "val / 0003", "first": 1, "second": 2, "photo": 0, "pictures": 1,
        "next": "val / 0006", "zoom": ["1.5", "1"], "legend": ["cat", "dog", "void"],
        "closed": True, "hash": "",
    }  # fmt: skip


def test_two_thousand_images_show_their_first_view_within_two_seconds(browse):
    found = browse(
        page_with(2000),
        "const drawn = document.querySelectorAll('.photo').length; "
        "const outside = performance.getEntriesByType('resource').map(e => e.name)"
        ".filter(name => !/^(data|file):/.test(name)); "
        "return { drawn, outside, count: document.getElementById('count').textContent, "
        "ready: performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd };",
    )

    assert found["outside"] == []
    assert found["count"] == "2000 of 2000 images"
    assert 48 <= found["drawn"] < 2000
    assert found["ready"] < 2000


def test_a_tall_window_is_filled_at_first_and_after_a_filter(browse):
    found = browse(
        page_with(400),
        f"{CHOOSE} const below = () => document.getElementById('end').getBoundingClientRect().top; "
        "const first = below(); choose('split', 'val'); "
        "return { first, filtered: below(), height: innerHeight };",
        height=6000,
    )

    assert found["height"] > 5000
    assert found["first"] > found["height"]
    assert found["filtered"] > found["height"]


def page_of_runs():
    """Three images under two runs, and one that only one run has."""
    images = []
    for index, (a, b) in enumerate(((0.5, 0.6), (0.9, 0.2), (0.4, 0.4))):
        layers = {"photo": PIXEL, "prediction: a": PIXEL, "prediction: b": PIXEL}
        layers |= {"ground truth": PIXEL, "refined mask: a": PIXEL}
        numbers = {"difference in mIoU": abs(a - b), "mIoU: a": a, "mIoU: b": b}
        images.append(Shown(f"{index}", "val", ["cat"], layers, numbers))
    images.append(Shown("3", "train", ["dog"], {"photo": PIXEL, "refined mask: a": PIXEL}, {}))
    pictures = report.Pictures(
        Gallery(images, "", "difference in mIoU", falling=True), report.legend(["cat", "dog"])
    )
    return report.render(report.Page("x", "f", "today", [report.Section("P", [pictures])]))


def test_runs_stand_side_by_side_and_the_largest_difference_comes_first(browse):
    found = browse(
        page_of_runs(),
        f"{CHOOSE} const tiles = () => [...document.querySelectorAll('.photo')].map(card => "
        "[...card.querySelectorAll('.strip small')].map(node => node.textContent)); "
        f"const found = {{ order: {CARDS}, tiles: tiles(), layer: document.getElementById('layer')"
        ".value, error: document.getElementById('kind').offsetParent !== null }; "
        f"choose('sort', 'mIoU: b'); found.byRun = {CARDS}; choose('sort', ''); "
        "choose('layer', 'refined mask, side by side'); found.refined = tiles(); "
        "choose('layer', 'prediction: b'); found.one = tiles().flat().length; return found;",
    )

    both = ["a50.0 %", "b60.0 %", "ground truth"]
    assert found["layer"] == "main picture, side by side"
    assert found["order"] == ["1", "0", "2", "3"]
    assert found["tiles"] == [
        ["a90.0 %", "b20.0 %", "ground truth"], both, ["a40.0 %", "b40.0 %", "ground truth"], ["a"],
    ]  # fmt: skip
    assert found["byRun"] == ["0", "2", "1", "3"]  # highest first
    assert found["refined"][0] == ["a"]  # reversed order of the list
    assert found["refined"][-1] == ["a", "ground truth"]
    assert found["one"] == 0  # one layer fills the card
    assert not found["error"]  # there is no kind of error to choose
