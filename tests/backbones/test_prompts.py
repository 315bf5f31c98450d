"""Prompts: templates, synsets, CSVs per class and per image, and what is said when one is missing."""

from pathlib import Path
from typing import Any

import pytest

from dap.backbones.prompts import TEMPLATE, read_prompts
from dap.data.imagenet import imagenet_wnids, synset
from dap.errors import ConfigError, DapError, DataError

NAMES = ("ant", "bee", "über cat")


@pytest.fixture
def table(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        (tmp_path / "prompts.csv").write_text(text, encoding="utf-8")
        return tmp_path / "prompts.csv"

    return write


def test_the_template_takes_the_name_as_it_stands() -> None:
    assert read_prompts(NAMES).text(2) == "a photo of a über cat"
    assert read_prompts(NAMES, "{name}, {name} {odd} 100%").text(0) == "ant, ant {odd} 100%"
    assert read_prompts(["{name}"], "a {name}").text(0, 5) == "a {name}"
    assert not read_prompts(NAMES).chosen
    assert read_prompts(NAMES, TEMPLATE).chosen
    assert read_prompts(NAMES, negative="").chosen


def test_a_wnid_is_its_whole_synset_string() -> None:
    prompts = read_prompts(["n01440764", "n02012849"], "{name}")
    assert [prompts.text(k) for k in (0, 1)] == ["tench, Tinca tinca", "crane"]
    everything = read_prompts(imagenet_wnids())
    assert everything.text(999) == f"a photo of a {synset(imagenet_wnids()[999])}"
    with pytest.raises(DataError, match="'n99999999' is not one of the 1,000 classes"):
        read_prompts(["n99999999"]).text(0)
    with pytest.raises(DataError, match=r"CSV class,prompt with the line n99999999,PROMPT: --set backbone.prompts="):
        read_prompts(["n99999999"]).text(0)


def test_prompts_per_class(table: Any) -> None:
    path = table('class,prompt\nbee,"a bee, flying"\n\nant, an ant \nüber cat,cat\nother,left alone\n')
    prompts = read_prompts(NAMES, table=path)
    assert [prompts.text(k) for k in range(3)] == ["an ant", "a bee, flying", "cat"]
    assert prompts.text(1, 77) == "a bee, flying"
    assert prompts.record() == {"classes": ["an ant", "a bee, flying", "cat"], "images": None, "negative": ""}


def test_prompts_per_image(table: Any) -> None:
    path = table(
        "class,index,prompt\nant,0,first\nant,1,second\nbee,,any bee\nbee,1,that bee\nüber cat,0,a\nüber cat,1,b\n"
    )
    prompts = read_prompts(NAMES, table=path, images=2, negative="grey")
    assert [prompts.text(0, 0), prompts.text(0, 1), prompts.text(0)] == ["first", "second", "a photo of a ant"]
    assert [prompts.text(1, 0), prompts.text(1, 1), prompts.text(1)] == ["any bee", "that bee", "any bee"]
    one = prompts.record()
    assert one["negative"] == "grey"
    with path.open("a", encoding="utf-8") as file:
        file.write("someone else,4,x\n")
    assert read_prompts(NAMES, table=path, images=2, negative="grey").record() == one  # of these classes alone
    path.write_text(path.read_text().replace("second", "other"))
    assert read_prompts(NAMES, table=path, images=2, negative="grey").record() != one


MALFORMED = [
    ("", "must begin with the line class,prompt or class,index,prompt"),
    ("name,prompt\nant,x\n", "must begin with the line class,prompt or class,index,prompt"),
    (
        "class,prompt\nant,a, b\n",
        "have the line 'ant,a, ?b'; write class,prompt, and quotes around a prompt with a comma",
    ),
    ("class,prompt\nant,\n", "have the line 'ant,'"),
    ("class,prompt\n,x\n", "have the line ',x'"),
    ("class,prompt\nant,x\nant,x\n", "have 'ant' twice"),
    ("class,index,prompt\nant,0,x\nant,00,x\n", "have 'ant,00' twice"),
    ("class,index,prompt\nant,,x\nant,,x\n", "have 'ant,' twice"),
    ("class,index,prompt\nant,-1,x\n", "have the index '-1' for 'ant'; images count from 0"),
    ("class,index,prompt\nant,²,x\n", "have the index '²'"),
    ("class,prompt\nant,x\n", "no line for class 'bee' .and 1 more classes.; the classes in it are ant"),
    (
        "class,prompt\nant,x\nbee,x\nÜber cat,x\n",
        "no line for class 'über cat'; the classes in it are ant, bee, Über cat",
    ),
    ("class,prompt\n", "no line for class 'ant' .and 2 more classes.; the classes in it are none"),
    (
        "class,index,prompt\nant,0,x\nant,1,x\nbee,0,x\nüber cat,,x\n",
        "no line for image 1 of class 'bee'; add bee,1,PROMPT",
    ),
    ("class,index,prompt\nant,,x\nüber cat,0,x\n", "no line for image 0 of class 'bee'; add bee,0,PROMPT"),
]


@pytest.mark.parametrize(("text", "said"), MALFORMED)
def test_a_csv_that_will_not_do(text: str, said: str, table: Any) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_prompts(NAMES, table=table(text), images=2)
    assert "\n" not in str(caught.value)


def test_a_csv_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(DataError, match=r"cannot read the prompts '.*(No such file|Is a directory)"):
            read_prompts(NAMES, table=path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot read the prompts"):
        read_prompts(NAMES, table=tmp_path / "binary")


def test_contradictions(table: Any) -> None:
    with pytest.raises(ConfigError, match=r"the same for all classes; write \{name\}"):
        read_prompts(NAMES, "a photo of a {nme}")
    with pytest.raises(DapError, match="both given; keep the template or the CSV"):
        read_prompts(NAMES, "a {name}", table("class,prompt\n"))
