"""Detectors find people in their box, and say what they need."""

import sys

import pytest
import torch
from PIL import Image
from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config, RTDetrImageProcessor

from tireid.search.detectors import hub
from tireid.search.detectors.hog import HogDetector
from tireid.search.detectors.interface import Box, Detector, inside
from tireid.search.detectors.opening import open_detector


@pytest.mark.parametrize(
    ("corners", "box"),
    [
        ((1.4, 2.6, 10.2, 20.4), Box(1, 3, 9, 17)),
        ((-5.0, -5.0, 50.0, 300.0), Box(0, 0, 50, 200)),
        ((150.0, 10.0, 160.0, 20.0), Box(100, 10, 0, 10)),
    ],
)
def test_a_box_is_cut_to_its_image(corners, box):
    assert inside(*corners, (100, 200)) == box


class TestHog:
    @pytest.fixture
    def hog(self):
        pytest.importorskip("cv2", reason="needs tireid[detect]")
        return open_detector("hog", "cpu")

    @pytest.mark.parametrize("size", [(640, 480), (20, 20), (5000, 60)])
    def test_nobody_is_in_a_plain_image_of_any_size(self, hog, size):
        assert isinstance(hog, Detector)
        assert hog(Image.new("RGB", size, "grey")) == []

    def test_boxes_come_back_in_the_image_s_own_pixels_and_tight(self, hog, monkeypatch):
        class Fixed:
            def detectMultiScale(self, pixels, **_):  # noqa: N802 -- OpenCV's name
                assert pixels.shape == (720, 960, 3)
                boxes = [(300, 150, 100, 200), (310, 150, 100, 200), (600, 10, 64, 128)]
                return boxes, [1.5, 2.5, 0.9]

        monkeypatch.setattr(hog, "_hog", Fixed())
        (person,) = hog(Image.new("RGB", (640, 480)))
        assert person.score == 2.5
        assert person.box == Box(217, 120, 46, 93)

    def test_without_opencv_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cv2", None)
        with pytest.raises(ValueError, match=r"pip install -e '\.\[detect\]'"):
            HogDetector()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a folder with a small D-FINE of random weights."""
    folder = tmp_path_factory.mktemp("detector")
    backbone = HGNetV2Config(
        stem_channels=[3, 4, 4],
        stage_in_channels=[4, 8, 8, 8],
        stage_mid_channels=[4, 4, 4, 4],
        stage_out_channels=[8, 8, 8, 8],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        embedding_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    small = {
        "d_model": 16,
        "encoder_hidden_dim": 16,
        "encoder_ffn_dim": 16,
        "encoder_in_channels": [8, 8, 8],
        "decoder_in_channels": [16, 16, 16],
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "decoder_layers": 2,
        "num_queries": 10,
        "num_denoising": 0,
    }
    torch.manual_seed(0)
    labels = {0: "car", 1: "person"}
    config = DFineConfig(backbone_config=backbone, id2label=labels, **small)
    DFineForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


class TestHub:
    def test_only_people_are_found_and_in_the_image_s_own_pixels(self, saved, monkeypatch):
        monkeypatch.setattr(hub, "_LEAST_SCORE", 0.0)
        detector = open_detector(str(saved), "cpu")
        image = Image.effect_noise((300, 200), 90).convert("RGB")
        people = detector(image)
        assert people == detector(image)
        inputs = detector._processor(images=image, return_tensors="pt")
        with torch.inference_mode():
            output = detector._model(**inputs)
        scores = output.logits.sigmoid()[0]
        wanted = scores.flatten().topk(10).indices
        expected = [int(i) // 2 for i in wanted if int(i) % 2 == 1]
        assert 0 < len(people) <= len(expected)
        detector._person = {0}
        assert len(detector(image)) <= 10 - len(expected)
        left, top, right, bottom = people[0].box.corners
        middle = output.pred_boxes[0, expected[0], :2] * torch.tensor([300, 200])
        assert (left + right) / 2 == pytest.approx(float(middle[0]), abs=2)
        assert (top + bottom) / 2 == pytest.approx(float(middle[1]), abs=2)

    def test_people_below_the_least_score_are_left_out(self, saved):
        assert open_detector(str(saved), "cpu")(Image.new("RGB", (300, 200))) == []

    def test_a_detector_of_other_things_is_refused(self, saved, monkeypatch):
        monkeypatch.setattr(hub, "_PERSON", "bicycle")
        with pytest.raises(ValueError, match=r"expected a label 'bicycle' in .*, got car, person"):
            open_detector(str(saved), "cpu")

    def test_what_is_no_detector_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"detect: expected an object detector in .* got"):
            open_detector(str(tmp_path), "cpu")

    def test_a_name_of_nothing_is_refused_without_asking_the_hub(self):
        with pytest.raises(ValueError, match=r"detect: expected hog, dfine, .* got 'hogg'"):
            open_detector("hogg", "cpu")

    def test_dfine_is_the_smallest_of_the_hub(self, monkeypatch):
        named = []

        def made(source, device):
            named.append(source)
            return lambda image: []

        monkeypatch.setattr(hub, "HubDetector", made)
        open_detector("dfine", "cpu")
        assert named == ["ustc-community/dfine-nano-coco"]
