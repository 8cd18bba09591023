"""Call strings, argument checks, and objects described by their arguments."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvae.checking import check_bool, check_number
from cvae.parsable import Configurable, Parsable
from cvae.parsing import Call, object_from_call, object_from_hyperparameters, parse_call, with_subclasses


class Point(Parsable):
    def __init__(self, x=0, y=0):
        self.x = check_number("x", x)
        self.y = check_number("y", y)


class Place(Point):
    """Never equal to a Point, even with equal arguments."""


class SpacedName(Parsable):
    label = "Spaced Name"


class Settings(Configurable):
    def __init__(self, rate=0.5, inner=None):
        self.rate = check_number("rate", rate, "[0, 1)")
        self.inner = object_from_call(inner, TABLE, "thing") if isinstance(inner, str) else inner
        self.calls = []


TABLE = {"Point": Point, "SpacedName": SpacedName, "Settings": Settings}

# ----------------------------------------------------------------- parse_call


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relu", Call("relu", (), {})),
        ("SGD()", Call("SGD", (), {})),
        ("  SGD ( ) ", Call("SGD", (), {})),
        ("SGD(0.1)", Call("SGD", (0.1,), {})),
        ("SGD(.1,momentum=0.9,)", Call("SGD", (0.1,), {"momentum": 0.9})),
        ("Adam(lr = 1e-3)", Call("Adam", (), {"lr": 1e-3})),
        ("Affine(slope=-1, intercept=+2)", Call("Affine", (), {"slope": -1, "intercept": 2})),
        ("SGD(clip_norm=None)", Call("SGD", (), {"clip_norm": None})),
        ("GELU(approximate=False)", Call("GELU", (), {"approximate": False})),
        ("hard sigmoid", Call("hard sigmoid", (), {})),
        ("Leaky-ReLU (alpha=0.3)", Call("Leaky-ReLU", (), {"alpha": 0.3})),
        ("f(a='x, y)')", Call("f", (), {"a": "x, y)"})),
        ("f(a=(1, 2))", Call("f", (), {"a": (1, 2)})),
        ("f(\n    a=1,\n)", Call("f", (), {"a": 1})),
        ("f(a=g(b=h(1), c=-2))", Call("f", (), {"a": "g(b=h(1), c=-2)"})),
        (
            "Adam(decay1=.5, lr_scheduler=None)",
            Call("Adam", (), {"decay1": 0.5, "lr_scheduler": None}),
        ),
    ],
)
def test_parse_call(text, expected):
    assert parse_call(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "()", "3", "(1)", "3(4)", "f(", "f)", "f(1", "f(1))", "f(1) g", "f(1)(2)",
        "f(1) + (2)", "f.g(1)", "f(1); g(2)", "f=1", "f(a=)", "f(a b)", "f(a=1 b=2)", "f(\0)",
        "f(" + "(" * 500 + ")" * 500 + ")",
    ],
)  # fmt: skip
def test_text_that_is_not_a_call(text):
    with pytest.raises(ValueError, match=r"must look like 'Name' or 'Name\(argument=1\)', got"):
        parse_call(text)


@pytest.mark.parametrize("ending", ["!", "(", "(1) g", ")"])
def test_many_blanks_before_a_malformed_ending(ending):
    """A backtracking parser takes minutes for these texts; this one reads them once."""
    with pytest.raises(ValueError, match=r"^a call string must look like 'Name'"):
        parse_call("A" + 100_000 * " " + ending)


def test_many_blanks_in_a_call():
    blanks = 100_000 * " "
    assert parse_call(f"{blanks}A{blanks}({blanks}1,{blanks}x=2{blanks}){blanks}") == Call("A", (1,), {"x": 2})


def test_calls_in_a_list_are_text():
    assert parse_call("f([g(1, a='b'), 'h(2)', 3], x=[k()])") == Call(
        "f", (["g(1, a='b')", "h(2)", 3],), {"x": ["k()"]}
    )
    with pytest.raises(ValueError, match="an argument must be a number"):
        parse_call("f([g(1), h])")


@pytest.mark.parametrize("text", ["f(a=b)", "f(none)", "f(a=1+1)", "f(*[1])", "f(a=[x for x in y])", "f([[g()]])"])
def test_arguments_that_are_not_literals(text):
    with pytest.raises(ValueError, match="an argument must be a number"):
        parse_call(text)


@pytest.mark.parametrize("text", ["f(a=1, a=2)", "f(**{})"])
def test_keywords_are_named_once(text):
    with pytest.raises(ValueError, match="each argument must be named once"):
        parse_call(text)


@pytest.mark.parametrize("value", [None, 3, b"f(1)", Point()])
def test_parse_call_takes_only_str(value):
    with pytest.raises(TypeError, match="a call string must be a str, got"):
        parse_call(value)


@pytest.mark.parametrize(
    "middle", [("-", "1", ""), ("not ", "1", ""), ("1+", "1", ""), ("a.", "b", ""), ("[", "", "]")]
)
@pytest.mark.parametrize("depth", [90, 900, 5000])
def test_deeply_nested_arguments_are_a_value_error(middle, depth):
    before, inner, after = middle
    with pytest.raises(ValueError, match="must"):
        object_from_call(f"Point({before * depth}{inner}{after * depth})", TABLE, "thing")


@given(st.text(alphabet="fgF01=,.()[]{}'\"-+*: \n\\#_e", max_size=25))
def test_any_text_is_a_call_or_a_value_error(text):
    try:
        name, _, _ = parse_call(text)
    except ValueError:
        return
    assert text.strip().startswith(name)


LITERALS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)


@given(
    args=st.lists(LITERALS, max_size=3),
    kwargs=st.dictionaries(st.from_regex(r"arg_[a-z0-9_]{1,5}", fullmatch=True), LITERALS),
)
def test_written_arguments_are_read_back(args, kwargs):
    written = [repr(value) for value in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    assert parse_call(f"Name({', '.join(written)})") == Call("Name", tuple(args), kwargs)


# ------------------------------------------------------- objects from calls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Point", Point()),
        ("point(1)", Point(x=1)),
        ("POINT(1, y=-2.5)", Point(1, -2.5)),
        ("Spaced Name", SpacedName()),
        ("spaced_name()", SpacedName()),
        ("spaced-NAME", SpacedName()),
        ("spacedname", SpacedName()),
    ],
)
def test_object_from_call(text, expected):
    assert object_from_call(text, TABLE, "thing") == expected


@pytest.mark.parametrize("name", ["Points", "Poin", "APoint", "PointW", "nothing"])
def test_names_are_matched_whole(name):
    with pytest.raises(ValueError, match=f"the thing must be one of Point, SpacedName, Settings, got '{name}'"):
        object_from_call(f"{name}(1)", TABLE, "thing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Point(z=1)", r"Point takes x, y: .*'z'"),
        ("Point(1, 2, 3)", "Point takes x, y: too many positional arguments"),
        ("Point(1, x=2)", "Point takes x, y: multiple values for argument 'x'"),
        ("SpacedName(1)", "SpacedName takes no arguments: too many positional arguments"),
        ("Settings(rate=2)", r"rate must be a number in \[0, 1\), got 2"),
        ("Settings(rate='a')", r"rate must be a number in \[0, 1\), got 'a'"),
        ("Settings(rate=None)", r"rate must be a number in \[0, 1\), got None"),
        ("Settings(inner=foo(1))", "the thing must be one of"),
        ("Settings(inner=Point(z=1))", "Point takes x, y"),
    ],
)
def test_wrong_arguments_in_text_are_value_errors(text, message):
    with pytest.raises(ValueError, match=message):
        object_from_call(text, TABLE, "thing")


def test_object_from_hyperparameters():
    hyperparameters = {"id": "Point", "y": 3}
    assert object_from_hyperparameters(hyperparameters, TABLE, "thing") == Point(0, 3)
    assert hyperparameters == {"id": "Point", "y": 3}


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"y": 3}, "hyperparameters must name the thing under 'id', got None"),
        ({"id": 3}, "hyperparameters must name the thing under 'id', got 3"),
        ({"id": "foo"}, "the thing must be one of Point, SpacedName, Settings, got 'foo'"),
        ({"id": "Point", "z": 3}, "Point takes x, y"),
        ({"id": "Point", "x": "a"}, "x must be a number"),
    ],
)
def test_wrong_hyperparameters(hyperparameters, message):
    with pytest.raises(ValueError, match=message):
        object_from_hyperparameters(hyperparameters, TABLE, "thing")


# ------------------------------------------------------------------- checks


@pytest.mark.parametrize(
    ("value", "interval"),
    [
        (0, "[0, 1)"),
        (0.999, "[0, 1)"),
        (1, "(0, 1]"),
        (5e-324, "(0, 1]"),
        (1e308, "[0, inf)"),
        (-1e308, "(-inf, inf)"),
    ],
)
def test_numbers_inside(value, interval):
    assert check_number("x", value, interval) == value


@pytest.mark.parametrize(
    ("value", "interval"),
    [
        (1, "[0, 1)"),
        (-1e-9, "[0, 1)"),
        (0, "(0, 1]"),
        (1.5, "(0, 1]"),
        (math.inf, "[0, inf)"),
        (-math.inf, "(-inf, inf)"),
        (math.nan, "(-inf, inf)"),
        (np.float32(2), "[0, 1)"),
    ],
)
def test_numbers_outside(value, interval):
    with pytest.raises(ValueError, match="x must be a number in"):
        check_number("x", value, interval)


@pytest.mark.parametrize("value", ["1", None, True, np.True_, 1j, [1], np.ones(1)])
def test_what_is_not_a_number(value):
    with pytest.raises(TypeError, match=r"x must be a number in \(-inf, inf\), got"):
        check_number("x", value)


@pytest.mark.parametrize(("value", "type_"), [(np.float32(0.5), float), (np.float64(1), float), (np.int8(3), int)])
def test_numpy_numbers_become_python_numbers(value, type_):
    assert type(check_number("x", value)) is type_


def test_check_bool():
    assert check_bool("flag", False) is False
    for value in (0, 1, None, "True"):
        with pytest.raises(TypeError, match="flag must be True or False, got"):
            check_bool("flag", value)


# ---------------------------------------------------- Parsable, Configurable


def test_str_and_equality():
    assert str(Point(1, 2.5)) == repr(Point(1, 2.5)) == "Point(x=1, y=2.5)"
    assert str(SpacedName()) == "Spaced Name"
    assert Point(1, 2) == Point(1.0, 2.0)
    assert Point(1, 2) != Point(1, 3)
    assert Place(1, 2) == Place(1, 2)
    assert Place(1, 2) != Point(1, 2)
    assert Point(1, 2) != Place(1, 2)
    assert Point() != "Point(x=0, y=0)"


@given(x=st.floats(allow_nan=False, allow_infinity=False), y=st.integers())
def test_str_is_parsed_back(x, y):
    settings_ = Settings(rate=0.25, inner=Point(x, y))
    assert object_from_call(str(settings_), TABLE, "thing") == settings_


def test_set_params_changes_checks_and_keeps_state():
    settings_ = Settings()
    settings_.calls.append("used")
    assert settings_.set_params({"id": "Settings", "rate": 0.75, "inner": "Point(1)"}) is settings_
    assert settings_ == Settings(0.75, Point(1))
    assert settings_.calls == ["used"]


@pytest.mark.parametrize(
    "changes",
    [{"rate": 0.1, "foo": 1}, {"rate": 7}, {"rate": 0.1, "inner": "bar"}, {"id": "Point"}],
)
def test_a_wrong_set_params_changes_nothing(changes):
    settings_ = Settings()
    given_changes = dict(changes)
    with pytest.raises(ValueError, match=r"must be|takes"):
        settings_.set_params(changes)
    assert settings_ == Settings()
    assert changes == given_changes


def test_hyperparameters_are_live():
    settings_ = Settings(inner=Point())
    hyperparameters = settings_.hyperparameters
    assert hyperparameters == {"id": "Settings", "rate": 0.5, "inner": "Point(x=0, y=0)"}
    hyperparameters["rate"] = 0.25
    settings_.set_params({"inner": None})
    assert settings_.rate == 0.25
    assert dict(hyperparameters) == {"id": "Settings", "rate": 0.25, "inner": None}
    assert repr(hyperparameters) == repr(dict(hyperparameters))
    assert len(hyperparameters) == 3


def test_hyperparameters_refuse_what_has_no_effect():
    hyperparameters = Settings().hyperparameters
    with pytest.raises(ValueError, match="Settings takes rate, inner"):
        hyperparameters["foo"] = 1
    with pytest.raises(ValueError, match="id must be 'Settings', got 'Point'"):
        hyperparameters["id"] = "Point"
    with pytest.raises(TypeError, match="can be changed but not deleted, got 'rate'"):
        del hyperparameters["rate"]
    with pytest.raises(KeyError):
        hyperparameters["foo"]


def test_copy_shares_nothing():
    settings_ = Settings(inner=Point(1))
    copied = settings_.copy()
    assert copied == settings_
    copied.calls.append("used")
    copied.inner.x = 5
    assert settings_.calls == []
    assert settings_.inner == Point(1)


# ------------------------------------------------------------ with_subclasses


def test_the_library_s_own_classes_come_first_and_win():
    class Base: ...

    namesake = type("First", (Base,), {})
    second, first, other = (type(name, (Base,), {}) for name in ("Second", "First", "first"))
    table = {"First": first, "Short": first, "Second": second}
    found = with_subclasses(table, Base)
    assert namesake not in found.values()
    assert list(found.items()) == [*table.items(), ("first", other)]
    assert type(object_from_call("FIRST", found, "class")) is first
