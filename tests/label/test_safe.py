"""Names of people and classes as names of files and folders."""

from hypothesis import given
from hypothesis import strategies as st

from gta.label.safe import LONGEST, safe_names
from gta.names import alike


@given(
    st.lists(
        st.text(min_size=1)
        | st.sampled_from(
            ["CON", "con.txt", "nul", ".", "..", "a/b", "a__b", "A__B", "x" * 300, "ß" * 90, "ss" * 90, " ", "e\u0301", "\u00e9"]
        )
    )
)
def test_any_names_become_names_that_every_file_system_takes(names):
    safe = safe_names(names, taken=["index.csv"])
    assert safe.keys() == set(names)
    assert len({alike(name) for name in safe.values()}) == len(safe) and "index.csv" not in map(alike, safe.values())
    for name in safe.values():
        assert 0 < len(name.encode()) <= LONGEST + 40 and not set(name) & set('<>:"/\\|?*\0\n') and name == name.strip(" .")
        assert name.split(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}


def test_a_name_that_can_be_a_folder_stays_and_its_double_is_told_apart():
    safe = safe_names(["a__b", "a/b", "crane", "Crane", "index.csv"], taken=["index.csv"])
    assert safe["a__b"] == "a__b" and safe["a/b"].startswith("a__b-") and safe["Crane"] == "Crane" and safe["crane"].startswith("crane-")
    assert safe["index.csv"] != "index.csv"
    assert safe_names(["deep/a.b.png", "nul.jpg"], suffixes=True) == {"deep/a.b.png": "deep__a.b.png", "nul.jpg": "_nul.jpg"}
