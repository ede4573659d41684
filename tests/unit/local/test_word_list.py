"""The search for words that the project does not use."""

from local.local_aws.environment import ROOT
from local.word_list import find_words, read_list


def test_a_listed_word_is_found_in_prose_and_in_identifiers() -> None:
    words = read_list((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    listed = next(word for word in words if " " in word)
    names = [f"name_{listed.replace(' ', '_')} = 1", f"{listed.title().replace(' ', '')}()"]
    text = "\n".join(["A sentence", f"with {listed.upper()}.", *names])
    assert list(find_words(text, words)) == [(2, listed), (3, listed), (4, listed)]
    assert words[listed]
