import pytest
from tokenizers import Tokenizer, models

from gta.llm import prompts
from gta.llm.chat import Question
from gta.llm.endpoint import LanguageModelError
from gta.names import fill
from gta.studies import zero_shot
from gta.worlds import aviary, digits, fieldguide
from gta.worlds.aviary import world
from gta.worlds.fieldguide import language_model, refuse_free
from gta.worlds.glyphs import FACTS, NAMES

GLYPHS = prompts.load("glyphs")


def describe(name):
    return Question(fill(GLYPHS.describe, name=name), name)


def test_the_guide_omits_and_errs_as_stated():
    guides = [fieldguide.draw_guide(seed) for seed in range(200)]
    said = [(name, fact) for guide in guides for name in NAMES for fact in guide[name]]
    wrong = sum(fact not in FACTS[name] for name, fact in said) / len(said)
    kept = len(said) / sum(len(FACTS[name]) for name in NAMES) / len(guides)
    assert wrong == pytest.approx(fieldguide.WRONG, abs=0.01)
    assert kept == pytest.approx(1 - fieldguide.OMITTED, abs=0.02)
    assert guides[0] == fieldguide.draw_guide(0) != guides[1]


def test_a_guide_of_birds_omits_and_errs_as_stated_and_tells_half_a_page_at_first():
    facts = world(1000).facts
    guides = [fieldguide.draw_guide(seed, facts) for seed in range(30)]
    said = [(name, fact) for guide in guides for name in facts for fact in guide[name]]
    assert sum(fact not in facts[name] for name, fact in said) / len(said) == pytest.approx(fieldguide.WRONG, abs=0.01)
    assert len(said) / (30 * 32 * 10) == pytest.approx(1 - fieldguide.OMITTED, abs=0.02)
    one, two, *_ = facts
    page, other = guides[0][one], guides[0][two]
    assert fieldguide.answer(guides[0], f'What of "{one}"?') == page[: max(2, len(page) // 2)]
    assert fieldguide.answer(guides[0], f'"{one}" or "{two}"?') == ([fact for fact in page if fact not in other] or page)


def test_the_guide_answers_over_http_what_it_says(guide_llm):
    guide = fieldguide.draw_guide(0)
    two = Question(fill(GLYPHS.distinguish, a="three", b="eight", known_a="nothing", known_b="nothing"), "three", "eight")
    described, told = guide_llm.ask([describe("three"), two])
    assert list(described.phrases) == guide["three"][: fieldguide.AT_FIRST]
    assert list(told.phrases) in ([fact for fact in guide["three"] if fact not in guide["eight"]], guide["three"])
    with pytest.raises(LanguageModelError, match="no class"):
        guide_llm.ask([Question('What of "platypus"?', "platypus")])


def test_shuffled_names_ask_about_another_class(guide_llm):
    names = NAMES[:10]
    shuffled = zero_shot.ShuffledNames(guide_llm, names, seed=0)
    guide = fieldguide.draw_guide(0)
    answers = [list(reply.phrases) for reply in shuffled.ask([describe(name) for name in names])]
    assert sorted(answers) == sorted(guide[name][: fieldguide.AT_FIRST] for name in names)
    assert all(shuffled._stands_for[name] != name for name in names)


@pytest.mark.parametrize("folder", [digits.ENCODERS, aviary.ENCODERS])
def test_a_folder_with_a_list_of_words_meets_no_free_language_model(folder):
    with pytest.raises(ValueError) as caught:
        refuse_free("m@http://h/v1", str(folder))
    assert str(caught.value) == (
        f"the encoder '{folder}' knows only the words of {folder}/tokenizer.json; the first answer with another word would end the run, "
        "after every question was paid for. For a free language model name a real CLIP and images that it knows, such as ViT-B/16 and "
        "your photographs; with this folder leave `llm` out, and nobody is paid"
    )
    for served in ("fieldguide", "fieldguide@http://127.0.0.1:8000/v1", "none", "gta_clip_llama3:/checkout"):
        refuse_free(served, str(folder))


def test_a_folder_that_reads_every_word_meets_any(tmp_path):
    """Pieces of words, as the tokenizers of real text towers are; and a folder with open_clip's own tokenizer, which needs no file."""
    refuse_free("m@http://h/v1", str(tmp_path))
    Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")])).save(str(tmp_path / "tokenizer.json"))
    refuse_free("m@http://h/v1", str(tmp_path))
    refuse_free("m@http://h/v1", "ViT-B/16")
    Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="knows only the words of"):
        refuse_free("m@http://h/v1", str(tmp_path))


def test_a_language_model_is_named_in_full():
    with pytest.raises(ValueError, match="MODEL@URL"), language_model("gpt-4o", 0):
        pass
