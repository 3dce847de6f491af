"""The filter of users: what it means, and what it refuses."""

import pytest

from tireid.search.where import Comparison, Junction, parse_where


def test_and_binds_more_than_or_and_not_most():
    found = parse_where("a=1 or not b=2 and c=3")
    one, two, three = (
        Comparison(n, "=", (v,), "number") for n, v in (("a", 1), ("b", 2), ("c", 3))
    )
    assert found == Junction("or", (one, Junction("and", (Junction("not", (two,)), three))))


def test_brackets_bind_first():
    found = parse_where("(a=1 OR b=2) And c=3")
    assert isinstance(found, Junction)
    assert found.operator == "and"


@pytest.mark.parametrize(
    ("text", "operator", "values", "kind"),
    [
        ("camera=3", "=", (3,), "number"),
        ("camera == -3.5", "=", (-3.5,), "number"),
        (f"camera={10**30}", "=", (1e30,), "number"),
        ("'camera'=3", "=", (3,), "number"),
        ("time>9:00", ">", ("09:00",), "time"),
        ("camera!='3'", "!=", ("3",), "text"),
        ("time>10:00", ">", ("10:00",), "time"),
        ("time<=2026-05-01", "<=", ("2026-05-01",), "date"),
        ("time>=2026-05-01T10:00:30", ">=", ("2026-05-01T10:00:30",), "datetime"),
        ('place="main gate (north)"', "=", ("main gate (north)",), "text"),
        ("path ~ hall/3", "~", ("hall/3",), "text"),
        ("number ~ 3", "~", ("3",), "text"),
        ("camera in (1, 2,3)", "in", (1, 2, 3), "number"),
        ("größe=weit", "=", ("weit",), "text"),
    ],
)
def test_a_comparison_is_read(text, operator, values, kind):
    found = parse_where(text)
    assert isinstance(found, Comparison)
    assert (found.operator, found.values, found.kind) == (operator, values, kind)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "the end of ''"),
        ("camera", "the end of"),
        ("camera=", "the end of"),
        ("=3", "'=3'"),
        ("camera=3 time>1", "'time>1'"),
        ("(camera=3", "the end of"),
        ("camera=3)", r"'\)'"),
        ("camera in 3", "'3'"),
        ("camera=3 and", "the end of"),
        ("'camera'", "the end of"),
        ("1; drop table images", "'1; drop"),
        ('place="open', "'\"open'"),
    ],
)
def test_what_is_no_filter_is_refused_at_its_place(text, got):
    with pytest.raises(ValueError, match=f"where: expected .*; got {got}"):
        parse_where(text)


def test_values_of_several_kinds_are_each_compared_as_what_they_are():
    found = parse_where("camera in (1, gate, 2)")
    numbers = Comparison("camera", "in", (1, 2), "number")
    assert found == Junction("or", (numbers, Comparison("camera", "in", ("gate",), "text")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time>25:00", "a time, got '25:00'"),
        ("time>2026-02-30", "a date, got '2026-02-30'"),
        ("(" * 60 + "a=1" + ")" * 60, "at most 50 brackets in a row"),
        ("not " * 5000 + "a=1", "at most 50 brackets in a row"),
        (f"a in ({'1,' * 6000}1)", "at most 10,000 words"),
    ],
)
def test_what_no_row_can_match_or_no_engine_can_read_is_refused(text, message):
    with pytest.raises(ValueError, match=f"where: expected {message}"):
        parse_where(text)
