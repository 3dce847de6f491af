"""Groups of captions follow the ground truth of the synthetic data set."""

import json

import numpy as np
import pytest

from tireid.comparison.report.caption_groups import caption_groups
from tireid.data.records import Record


def by_question(small_data):
    root = small_data.records("test")[0].image_path.parents[2]
    records = small_data.records("test")
    return root, records, caption_groups(root, records)


def test_captions_are_in_the_groups_that_their_words_ask_for(small_data):
    _, records, found = by_question(small_data)
    texts = [caption for record in records for caption in record.captions]
    glasses = set(found["attribute in the caption"]["glasses"].tolist())
    spoken = {n for n, text in enumerate(texts) if "glasses" in text}
    assert spoken <= glasses
    count = found["number of attributes in the caption"]
    words = {
        name: np.mean([len(texts[i].split()) for i in group])
        for name, group in count.items()
        if len(group)
    }
    assert words["10 or more"] > words["fewer than 6"]


def test_parts_that_exclude_one_another_hold_every_caption_once(small_data):
    _, records, found = by_question(small_data)
    queries = sum(len(record.captions) for record in records)
    for question, groups in found.items():
        joined = sorted(np.concatenate(list(groups.values())).tolist())
        if question != "attribute in the caption":
            assert joined == list(range(queries)), question


def test_groups_follow_the_view_and_the_twins_of_the_truth(small_data):
    root, records, found = by_question(small_data)
    rows = [json.loads(line) for line in (root / "ground_truth.jsonl").read_text().splitlines()]
    truth = {root / "imgs" / row["path"]: row for row in rows}
    owners = [record for record in records for _ in record.captions]
    for query in found["view of the person in the described image"]["back"]:
        assert truth[owners[query].image_path]["view"].startswith("back")
    paired = {row["pid"] for row in rows if row["twin"]} | {row["twin"] for row in rows}
    for query in found["whether the person has a near twin"]["no near twin"]:
        assert owners[query].pid not in paired


def test_a_set_without_ground_truth_is_grouped_by_what_is_read_in_its_captions(
    small_data, tmp_path
):
    texts = ("A man with a black hat.", "A woman in a red coat without a hat.")
    groups = caption_groups(tmp_path, [Record(tmp_path / "1.jpg", 1, texts, 0)])
    assert set(groups) == {"number of attributes in the caption", "attribute in the caption"}
    found = groups["attribute in the caption"]
    assert found["hat"].tolist() == [0]
    assert found["upper garment, colour"].tolist() == [1]
    read = caption_groups(tmp_path, small_data.records("test"))["attribute in the caption"]
    true = by_question(small_data)[2]["attribute in the caption"]
    assert read["glasses"].tolist() == true["glasses"].tolist()


def test_ground_truth_of_other_records_is_refused(small_data):
    root = small_data.records("test")[0].image_path.parents[2]
    nobody = Record(root / "imgs" / "nobody.jpg", 1, ("a man",), 0)
    with pytest.raises(ValueError, match=r"ground_truth\.jsonl: expected a line for each caption"):
        caption_groups(root, [nobody])


@pytest.mark.parametrize("line", ["[1]", "{}", '{"path": 5}', "{"])
def test_broken_ground_truth_is_named(tmp_path, line):
    (tmp_path / "ground_truth.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"ground_truth\.jsonl: |Expecting"):
        caption_groups(tmp_path, [])
