"""The reader of WordNet on a small `data.noun`, written by hand in its format."""

import pytest

from gta.workshop import wordnet

LICENCE = "  1 This software is provided to you, the LICENSEE, by  \n  2   \n  3 Princeton University.  \n"
# 1 entity <- 2 animal, living creature <- 3 dog <- 4 pug; 5 mammal <- 3; 1 <- 6 ship <- 7 Titanic (an instance), which a verb points to
NOUNS = """\
00000001 03 n 01 entity 0 002 ~ 00000002 n 0000 ~ 00000006 n 0000 | that which is | really
00000002 05 n 02 animal 0 living_creature 0 003 @ 00000001 n 0000 ~ 00000003 n 0000 + 00000009 v 0101 | a thing that moves; "it lives"
00000003 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 002 @ 00000005 n 0000 @ 00000002 n 0000 | a barking thing
00000004 05 n 01 pug 0 001 @ 00000003 n 0000 | a small dog
00000005 05 n 01 mammal 0 001 @ 00000002 n 0000 | it has hair
00000006 06 n 01 ship 0 001 @ 00000001 n 0000 | a vessel
00000007 06 n 01 Titanic 0 002 @i 00000006 n 0000 #p 00000001 n 0000 | it sank
"""


def test_words_and_kinds_are_read():
    nouns = wordnet.read(LICENCE + NOUNS)
    assert len(nouns) == 7
    assert nouns["00000003"] == wordnet.Noun(("dog", "domestic dog", "Canis familiaris"), ("00000005", "00000002"))
    assert nouns["00000007"].kinds == ("00000006",)  # not what it is a part of
    assert nouns["00000002"].kinds == ("00000001",)


def test_many_words_are_counted_in_hexadecimal():
    words = " ".join(f"w{i}_x 0" for i in range(16))
    assert wordnet.read(f"00000001 03 n 10 {words} 000 | g\n")["00000001"].words == tuple(f"w{i} x" for i in range(16))


def test_the_licence_is_read_without_its_numbers():
    assert wordnet.licence(LICENCE + NOUNS) == "This software is provided to you, the LICENSEE, by\n\nPrinceton University.\n"


def test_nodes_are_the_classes_and_what_they_are_kinds_of():
    found = wordnet.nodes(wordnet.read(NOUNS), ["00000007", "00000004", "00000005"], ["the Titanic", "pug dog", "mammal"])
    classes = [("the Titanic", (0,)), ("pug dog", (1,)), ("mammal", (2,))]
    # a pug is a mammal too, but that is a class and so its own node alone
    kinds = [("entity", (0, 1, 2)), ("animal", (1, 2)), ("dog", (1,)), ("ship", (0,))]
    assert [(node.name, node.classes) for node in found] == classes + kinds


def test_the_fingerprint_knows_names_and_classes_and_nothing_else():
    asked = (["00000007", "00000004"], ["Titanic", "pug"])
    base = wordnet.fingerprint(wordnet.nodes(wordnet.read(NOUNS), *asked))
    other_verb = NOUNS.replace("00000009 v", "00000008 v")
    assert wordnet.fingerprint(wordnet.nodes(wordnet.read(other_verb), *asked)) == base
    for changed in (NOUNS.replace("01 ship", "01 boat"), NOUNS.replace("pug 0 001 @ 00000003", "pug 0 001 @ 00000005")):
        assert wordnet.fingerprint(wordnet.nodes(wordnet.read(changed), *asked)) != base


@pytest.mark.parametrize(
    "line",
    ["00000001 03 n 01 thing 0 002 ~ 00000002 n 0000 | g", "00000001 03 n zz thing 0 000 | g", "a b", "00000001 03 n 03 a 0 000 | g"],
)
def test_another_format_is_refused_with_its_line(line):
    with pytest.raises(ValueError, match=r"line 8 is none of WordNet's data\.noun"):
        wordnet.read(NOUNS + line)
