import pytest
import yaml

from gta.llm import prompts

DOMAINS = yaml.safe_load(prompts.FILE.read_text(encoding="utf-8"))["domains"]


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_asks_whole_questions(domain):
    """No field is left but those that are filled when asking; class names stand in quotes, which the field guide reads."""
    loaded = prompts.load(domain)
    rest = loaded.distinguish.replace('"{a}"', "").replace('"{b}"', "").replace("{known_a}", "").replace("{known_b}", "")
    assert "{" not in rest + loaded.describe.replace('"{name}"', "") + (loaded.habitat or "").replace('"{name}"', "")
    assert (loaded.habitat is not None) == (domain in ("birds", "flowers"))


def test_a_user_replaces_the_questions(tmp_path):
    own = {"questions": {"describe": "{name}?", "habitat": "where {name}?", "distinguish": "{a} or {b}, {word}?"}}
    own["domains"] = {"mine": {"word": "hm", "habitat": "near {name}?"}, "bad": {"describe": "what?"}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    assert prompts.load("mine", tmp_path / "own.yaml") == prompts.Prompts("{name}?", "{a} or {b}, hm?", "Near {name}?")
    with pytest.raises(ValueError, match=r"own\.yaml: describe of 'bad' needs \{name\}"):
        prompts.load("bad", tmp_path / "own.yaml")


def test_an_unknown_domain_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'birds'"):
        prompts.load("bird")
