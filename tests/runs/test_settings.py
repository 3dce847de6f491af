"""Settings of runs that earlier versions wrote are read by the names of today."""

import yaml

from tireid.runs.settings import (
    difference,
    fingerprint,
    read_config,
    read_settings,
)

EARLIER = {
    "supports": {"_target_": "tireid.data.supports.SupportSettings", "num_images": 2},
    "teaching": {"checkpoint": "some/teacher.ckpt", "targets": "once"},
    "model": {
        "_target_": "tireid.methods.lcr2s.Lcr2s",
        "teacher": {
            "_target_": "tireid.methods.lcr2s_teacher.Lcr2sTeacher",
            "num_images": 2,
            "num_texts": 2,
            "paired": False,
            "source": "memory",
        },
    },
}
TODAY = {
    "teacher": "some/teacher.ckpt",
    "teaching": {"targets": "once"},
    "model": {
        "_target_": "tireid.methods.lcr2s.Lcr2s",
        "teacher": {
            "_target_": "tireid.methods.lcr2s.Lcr2sTeacher",
            "source": "memory",
            "supports": EARLIER["supports"],
        },
    },
}


def test_supports_and_a_given_teacher_have_moved(tmp_path):
    plain = {"teaching": None, "model": {"_target_": "a"}}
    for written, current in (
        (EARLIER, TODAY),
        (TODAY, TODAY),
        ({"supports": None, **plain}, plain),
    ):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
        assert read_settings(tmp_path) == current
        assert read_config(tmp_path) == written


def test_a_setting_that_earlier_versions_lacked_has_the_value_that_they_acted_by(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(EARLIER))
    for selection, different in (
        ("last", ""),
        ("val", "teaching.selection='last' instead of 'val'"),
    ):
        today = TODAY | {"teaching": TODAY["teaching"] | {"selection": selection}}
        assert difference(tmp_path, today) == different


def test_a_run_of_an_earlier_version_is_the_same_run_and_keeps_its_hash(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(EARLIER))
    assert difference(tmp_path, TODAY | {"split_of_selection": {"val": "val"}, "new": None}) == ""
    other = TODAY | {"teacher": None}
    assert difference(tmp_path, other) == "teacher='some/teacher.ckpt' instead of None"
    assert fingerprint(read_config(tmp_path)) == fingerprint(EARLIER) != fingerprint(TODAY)
