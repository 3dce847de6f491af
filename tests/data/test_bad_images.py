from pathlib import Path

import pytest

from tireid.data.bad_images import without_bad_images
from tireid.data.cuhk_pedes import read_cuhk_pedes


@pytest.fixture
def checked(write_data_set, tmp_path):
    """A function from broken images and a share to what is left of the small data set."""
    root = write_data_set()
    splits = read_cuhk_pedes(root)

    def check(broken=(), share=0.5):
        for name in broken:
            (root / "imgs" / name).write_text("no image")
        return splits, *without_bad_images(splits, share, tmp_path / "marks", name="small")

    return check


def test_bad_images_of_training_are_left_out_up_to_a_share_and_listed(checked):
    with pytest.warns(UserWarning, match=r"small: 2 of 5 training images \(40\.00%\) cannot be"):
        before, after, bad = checked(["cam_a/70_0.png", "cam_b/3_0.png"], share=0.4)
    assert {Path(path).name for path in bad} == {"70_0.png", "3_0.png"}
    assert all("expected a readable image" in reason for reason in bad.values())
    kept = [r.image_path.name for r in before["train"] if r.image_path not in bad]
    assert [r.image_path.name for r in after["train"]] == kept
    assert [r.image_id for r in after["train"]] == [0, 1, 2]
    assert (after["val"], after["test"]) == (before["val"], before["test"])


def test_an_identity_without_images_is_said(checked):
    with pytest.warns(UserWarning, match="left out, and with them 1 identities"):
        _, after, _ = checked(["cam_a/12_0.png"])
    assert 12 not in {record.pid for record in after["train"]}


@pytest.mark.parametrize(
    ("broken", "share", "message"),
    [
        (["cam_a/70_0.png"], 0.0, r"1 of 10 images cannot be read.*\n.*70_0\.png"),
        (
            ["cam_a/70_0.png"],
            0.1,
            r"\(20\.00%\).*dataset\.bad_images=0\.1 .*\n.*70_0.*\n.*=0\.2000",
        ),
        (["cam_a/5_0.png"], 1.0, r"1 of 5 images cannot be read.*\n.*5_0\.png"),
        (["cam_b/11_1.png"], 1.0, r"1 of 5 images cannot be read.*\n.*11_1\.png"),
    ],
    ids=["by default", "too many", "val", "test"],
)
def test_more_of_them_or_any_of_an_evaluation_is_refused(checked, broken, share, message):
    with pytest.raises(ValueError, match=message):
        checked(broken, share)


def test_a_whole_set_is_remembered_and_nothing_is_left_out(checked, monkeypatch):
    before, after, bad = checked()
    assert (after, bad) == (before, {})
    monkeypatch.setattr("tireid.data.images.decode", lambda _: pytest.fail("decoded again"))
    assert checked()[1] == before
