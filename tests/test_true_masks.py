"""Masks that studies put in the place of corrected ones: true, random, the fewer among the more."""

from pipeline.data.palette import read_label_image
from scripts import true_masks


def test_each_seed_chooses_other_images_and_fewer_are_among_the_more(shapes_root, tmp_path):
    words = [f"data.root={shapes_root}", "data.train=10", "data.val=4", "data.size=64"]

    true_masks.main([str(tmp_path), "--seeds", "0,1", "--counts", "2,5", *words])

    ids = {
        (seed, count): {path.stem for path in (tmp_path / seed / count).glob("*.png")}
        for seed in "01"
        for count in "25"
    }
    data = true_masks.data_of(words)
    truth = {item.id: read_label_image(item.mask) for item in data.train.items}
    for (seed, count), found in ids.items():
        assert len(found) == int(count)
        for id_ in found:
            written = read_label_image(tmp_path / seed / count / f"{id_}.png")
            assert (written == truth[id_]).all()
    assert ids["0", "2"] < ids["0", "5"]
    assert ids["0", "5"] != ids["1", "5"]
    names = (tmp_path / "0" / "2" / "classes.txt").read_text().splitlines()
    assert tuple(names) == data.classes
