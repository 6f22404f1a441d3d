"""What the pages say is true: code, commands, options and messages. test_site.py checks links."""

import argparse
import ast
import inspect
import re
import shlex
import tomllib
from functools import cache
from itertools import islice

import numpy as np
import pytest
import torch
from hydra.errors import ConfigCompositionException
from PIL import Image
from torch import nn

import tsgb
from pipeline.base.errors import PipelineError
from pipeline.command import main
from pipeline.commands.command_line import existing
from pipeline.commands.parsers import PARSERS
from pipeline.commands.words import read_word
from pipeline.data.voc import load_voc
from pipeline.networks.backbones import build_classifier
from pipeline.run.folders import StageFolder
from pipeline.run.settings import plain
from scripts import draw_method_pictures as drawing
from scripts import write_method_index as method_index
from tests.conftest import ROOT, composed
from tsgb import metrics
from tsgb.explain import answer, command
from tsgb.index import methods

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
METHOD_PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page, *languages):
    """The code between fences of these languages; "" is a fence that names none."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [code for language, code in fences if language in languages]


def prose(page):
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def inline(page):
    """Everything between single backticks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


@every_page
def test_every_page_can_be_reached_from_the_first(page):
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        here = waiting.pop()
        reached.add(here)
        found = re.findall(r"\]\(([^)#]+\.md)", prose(here))
        waiting += [new for t in found if (new := (here.parent / t).resolve()) not in reached]
    assert page in reached


def execute(code, namespace):
    """Run the code; a line that is ``expression  # value`` has to have that value."""
    lines = code.splitlines()
    for statement in ast.parse(code).body:
        source = ast.get_source_segment(code, statement)
        _, mark, said = lines[statement.end_lineno - 1].partition("  # ")
        if isinstance(statement, ast.Expr) and mark:
            assert str(eval(source, namespace)) == said, source
        else:
            exec(source, namespace)


def namespace_of(page):
    """What the code of a page may take for granted."""
    if page.parent.name == "methods" or page.name == "methods.md":
        namespace = {}
        execute(blocks(ROOT / "docs" / "saliency.md", "python")[0], namespace)
        return namespace
    if page.name == "command_line.md":
        return {"image": np.zeros((64, 64, 3), np.uint8), "maps": torch.rand(1, 1, 4, 4)}
    return {}


@pytest.mark.parametrize(
    "page",
    # These need a trained network: test_predict.py, test_export.py and test_tutorial.py run them.
    [p for p in PAGES if blocks(p, "python") and p.name not in ("predict.md", "tutorial.md")],
    ids=lambda page: page.name,
)
def test_python_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((90, 70), 50).save("photo.jpg")
    torch.manual_seed(0)
    namespace = namespace_of(page)
    for code in blocks(page, "python"):
        execute(code, namespace)


def commands(text):
    """The command lines of a text as words; continued lines are joined, comments left out."""
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        if words and words[0] in ("tsgb", "python", "make", "pip"):
            yield shlex.split(line, comments=True)


COMMANDS = [
    *(words for page in PAGES for code in blocks(page, "", "sh") for words in commands(code)),
    *commands(command.EXAMPLES.replace("    (", "  # (")),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_exist_and_understand_their_words(words):
    {"tsgb": check_tsgb, "python": check_script, "make": check_make, "pip": check_pip}[words[0]](
        words[1:]
    )


def parsed(words):
    """What the parser of the command ``tsgb`` makes of its words."""
    parser = argparse.ArgumentParser()
    command.add_commands(parser.add_subparsers())
    return parser.parse_args(words)


def check_tsgb(words):
    if words[0] == "run":
        check_run(words[1:])
        return
    if words[0] in PARSERS:
        PARSERS[words[0]]().parse_args(words[1:])
        return
    wanted = parsed(words)
    if words[0] == "explain":
        method = answer.method_named(wanted.method)
        answer.method_options(method, wanted.layer, wanted.option)


def check_script(words):
    script, *rest = words
    assert (ROOT / script).is_file()
    if script == "scripts/run.py":
        check_run(rest)


def check_run(words):
    if "-m" in words:  # a sweep: its first job
        words = [word.partition(",")[0] for word in words]
    for setting in (word for word in words if not word.startswith("-")):
        check_setting(setting, words)


def check_make(words):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets)


def check_pip(words):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\[(.*?)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def check_setting(setting, context=()):
    """Some data source accepts the setting beside the groups and backbone of the command."""
    chosen = [w for w in context if re.fullmatch(r"([a-z]+|classifier\.backbone)=[a-z_0-9,]+", w)]
    sources = ([], ["data=folder", "data.images=x", "data.labels=y"], ["data=voc", "data.root=x"])
    errors = []
    for source in sources:
        try:
            given = str(existing(read_word(setting)))
            plain(composed(*source, *(c for c in chosen if c != setting), given))
        except (ConfigCompositionException, PipelineError) as error:
            errors.append(str(error))
        else:
            return
    raise AssertionError(f"{setting}: {errors[0]}")


GROUPS = set(composed())
SETTINGS = sorted(
    {
        re.sub("=N$", "=1", word)
        for page in PAGES
        for word in inline(page)
        if re.fullmatch(r"[a-z_]+(\.[a-z_]+)*=\S+", word)
        and re.split(r"[.=]", word)[0] in GROUPS
        and not (ROOT / "configs" / f"{word.replace('=', '/')}.yaml").is_file()  # it exists
    }
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_in_the_text_exist(setting):
    check_setting(setting)


def test_the_table_of_commands_names_every_command(capsys):
    page = (ROOT / "docs" / "command_line.md").read_text()

    with pytest.raises(SystemExit):
        main(["--help"])

    commands = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(re.findall(r"^\| `tsgb (\w+)` \|", page, re.MULTILINE)) == sorted(commands)


def test_the_table_of_the_command_names_every_option():
    page = (ROOT / "docs" / "command_line.md").read_text()
    explain = vars(parsed(["explain", "x", "--model", "y"])).keys() - {"answer", "image"}
    scored = vars(PARSERS["score"]().parse_args(["x", "y"])).keys() - {"predictions", "truth"}
    predicted = vars(PARSERS["predict"]().parse_args(["x", "y", "--out", "z"])).keys()
    own_page = (ROOT / "docs" / "predict.md").read_text()

    named = re.findall(r"^\| `--([a-z]+)", page, re.MULTILINE)

    assert sorted(named) == sorted([*explain, *scored])
    for option in predicted - {"run", "photos"}:
        assert f"--{option}" in own_page


def classes_of(page):
    """The methods that the first lines of a page name."""
    words = re.findall(r"`tsgb\.(\w+)`", page.read_text().partition("[All methods]")[0])
    return [c for word in words if isinstance(c := getattr(tsgb, word), type)]


def test_every_method_has_the_page_of_its_module():
    pages = {c: page.stem for page in METHOD_PAGES for c in classes_of(page)}

    assert pages == {c: c.__module__.rpartition(".")[2] for c in methods().values()}


def test_the_index_says_what_the_classes_say():
    page = method_index.PAGE.read_text()

    assert page == method_index.with_index(page), "run python scripts/write_method_index.py"


@pytest.mark.parametrize("page", METHOD_PAGES, ids=lambda page: page.stem)
def test_the_options_and_their_defaults_are_those_of_the_class(page):
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", page.read_text(), re.MULTILINE)
    said = {name: default.strip("`") for name, default in rows}
    for method in classes_of(page):
        parameters = list(inspect.signature(method).parameters.values())[1:]  # without the model
        assert said == {p.name: written(p.default) for p in parameters}


def written(default):
    """The default as a page writes it."""
    if isinstance(default, type):
        return default.__name__
    return f'"{default}"' if isinstance(default, str) else str(default)


def test_the_metrics_of_the_table_exist():
    section = (ROOT / "docs" / "saliency.md").read_text().partition("## Metrics")[2]
    rows = re.findall(
        r"^\| (localisation|faithfulness|sanity|stability) \| (.*) \|$", section, re.MULTILINE
    )
    named = re.findall(r"`(\w+)`", " ".join(functions for _, functions in rows))

    assert len(rows) == 4
    assert all(hasattr(metrics, name) for name in named)


def test_the_glossary_is_in_order():
    page = (ROOT / "docs" / "glossary.md").read_text()
    words = [word.casefold() for word in re.findall(r"^- \*\*(.*?)\*\*", page, re.MULTILINE)]

    assert words == sorted(words)


TITLES = [
    title
    for line in (ROOT / "docs" / "troubleshooting.md").read_text().splitlines()
    if line.startswith("### ")
    for title in re.findall(r"`([^`]+)`", line)
]
# Titles with names and numbers in them, and what makes the message.
PROVOKED = {
    "is DataParallel": lambda folder: tsgb.TSGB(nn.DataParallel(nn.Linear(2, 2)).eval()).attribute(
        torch.ones(1, 2, 1, 1), torch.tensor([0])
    ),
    "contains neither VOCdevkit/VOC2012 nor VOC2012": load_voc,
    "holds files, but no manifest.json, so no stage made it": lambda folder: StageFolder(
        folder, {"settings": 1}
    ).begin(),
}


@cache
def messages():
    """Every text in the source, one a line; what an f-string fills in is left out."""
    paths = [path for package in ("tsgb", "pipeline") for path in (ROOT / package).rglob("*.py")]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    filled = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
    parts = [[*values] for values in filled] + [[node] for node in nodes]
    constants = [[p.value for p in some if isinstance(p, ast.Constant)] for some in parts]
    texts = ["".join(v for v in values if isinstance(v, str)) for values in constants]
    return "\n".join(text.replace("\n", " ") for text in texts)


@pytest.mark.parametrize("title", TITLES)
def test_messages_in_titles_are_those_of_the_source(title, tmp_path):
    pattern = ".*".join(re.escape(part.strip()) for part in re.split(r"\.\.\.|\bN\b", title))
    found = messages()
    if title in PROVOKED:
        (tmp_path / "file").write_text("")
        with pytest.raises(Exception) as caught:  # noqa: PT011, the text is what counts
            PROVOKED[title](tmp_path)
        found = f"{caught.value} {caught.value.__cause__}".replace("\n", " ")
    assert re.search(pattern, found)


def test_what_is_provoked_is_a_title():
    assert set(PROVOKED) <= set(TITLES)


@pytest.fixture
def network():
    """Random weights, and every class named."""
    torch.manual_seed(0)
    network = build_classifier("timm", "test_resnet", "none", 5).eval()
    torch.nn.init.constant_(network.head.bias, 9.0)
    return network


def test_pictures_show_the_first_two_named_classes(network):
    first, second = islice(drawing.recognised(network), 2)

    assert all(len(set(example.targets)) == 2 for example in (first, second))
    assert not np.array_equal(first.scene.image, second.scene.image)
    for example in (first, second):
        shown = set(np.unique(example.scene.mask)) - {0, 255}
        assert shown == {k + 1 for k in example.targets}
    with torch.no_grad():
        network.head.bias[first.targets[0]] = -9.0
    assert first.targets[0] not in next(drawing.recognised(network)).targets


def test_a_sheet_has_the_image_both_maps_and_both_of_grad_cam(network):
    examples = list(islice(drawing.recognised(network), 2))

    drawn = drawing.sheet(network, examples, ["cam"])

    assert drawn.shape[1] == 5 * (drawing.SIDE + 8) + 8
    image = examples[0].scene.image
    top = next(y for y in range(len(drawn)) if np.array_equal(drawn[y, 8:136], image[0]))
    np.testing.assert_array_equal(drawn[top : top + drawing.SIDE, 8:136], image)
    lines = (drawn == (60, 200, 90)).all(-1).any(0)
    assert [lines[x : x + drawing.SIDE].any() for x in range(8, 688, 136)] == [False] + 4 * [True]


def test_a_folder_without_a_classifier_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"holds 0 classifiers, expected one.*stage=classifier"):
        drawing.trained(tmp_path)
