"""A checkpoint made by a stranger: nothing of it runs, nothing of it is built, one line says why."""

from __future__ import annotations

import builtins
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from PIL import Image
from safetensors.torch import load_file, save_file
from test_chat import TEMPLATE, chat_tokenizer
from transformers.utils import logging as transformers_logging

from biod2c_core.errors import BioD2CError, CheckpointError, ConfigError
from biod2c_core.foreign import read_json
from biod2c_core.inference.calibration import load_calibration
from biod2c_core.model.backbones.language_model import load_language_model
from biod2c_core.model.chat import templates
from biod2c_core.model.chat.templates import apply_chat_template
from biod2c_core.model.checkpoints import limits
from biod2c_core.model.checkpoints.convert import _text_config
from biod2c_core.model.checkpoints.folder import load_model, load_processor, locate
from biod2c_core.model.checkpoints.limits import check_sizes, explodes
from biod2c_core.model.checkpoints.pretrained import loading
from biod2c_core.model.checkpoints.tensor_files import read_tensors
from biod2c_core.model.generation import Answerer
from biod2c_core.model.processing import BioD2CProcessor

Edit = Callable[[dict[str, Any]], Any]
DEEP = "[" * 100_000


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    shutil.copytree(checkpoint, tmp_path / "theirs")
    return tmp_path / "theirs"


def edit(path: Path, change: Edit) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def load(folder: Path) -> BioD2CProcessor:
    place = locate(folder)
    processor = load_processor(place)
    load_model(place)
    return processor


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A person who would say yes to any question; the file is what their Python leaves behind."""
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    return tmp_path / "exploded"


def with_code(folder: Path, mark: Path, name: str) -> None:
    code = (
        f"open({str(mark)!r}, 'w')\nclass Tokenizer: pass\nclass Config: pass\nclass Model: pass\n"
    )
    (folder / "theirs.py").write_text(code)
    names = {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}
    names |= {"AutoModelForCausalLM": "theirs.Model"}
    names["AutoTokenizer"] = ["theirs.Tokenizer", "theirs.Tokenizer"]  # type: ignore[assignment]
    edit(folder / name, lambda content: content.update(auto_map=names, tokenizer_class="Theirs"))


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json", "processor_config.json"])
def test_python_beside_a_checkpoint_never_runs(folder: Path, armed: Path, name: str) -> None:
    with_code(folder, armed, name)
    if name == "tokenizer_config.json":
        with pytest.raises(CheckpointError, match="Python of its own, which is never run"):
            load(folder)
    else:
        load(folder)  # by our own classes
    assert not armed.exists()


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("known", [True, False])
def test_python_beside_a_language_model_never_runs(
    llama: Path, tmp_path: Path, armed: Path, name: str, known: bool
) -> None:
    theirs = tmp_path / "llama"
    shutil.copytree(llama, theirs)
    with_code(theirs, armed, name)
    if not known:
        edit(theirs / "config.json", lambda content: content.update(model_type="theirs"))
    refused = r"never run|does not recognize"
    if known:
        _text_config(theirs, str(theirs))
    else:
        with pytest.raises(CheckpointError, match=refused):
            _text_config(theirs, str(theirs))
    if known and name == "config.json":
        load_language_model(str(theirs))
    else:
        with pytest.raises(CheckpointError, match=refused):
            load_language_model(str(theirs))
    assert not armed.exists()


def text(**values: Any) -> Edit:
    return lambda content: content["text_config"].update(values)


def top(**values: Any) -> Edit:
    return lambda content: content.update(values)


def vision(**values: Any) -> Edit:
    return lambda content: content["vision"].update(values)


LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", text(num_hidden_layers=10**6), "num_hidden_layers is 1,000,000"),
        ("config.json", text(num_hidden_layers=-1), "num_hidden_layers is -1"),
        ("config.json", text(vocab_size=10**10), "vocab_size is 10,000,000,000"),
        ("config.json", text(vocab_size=10**400), "vocab_size is beyond all bounds"),
        ("config.json", text(vocab_size=3_000_000, hidden_size=8192), "at least"),
        ("config.json", text(num_attention_heads=10**6), "num_attention_heads"),
        ("config.json", text(vocab_size="x"), "cannot be loaded"),
        ("config.json", text(attn_implementation="them/kernel"), "code of the hub"),
        ("config.json", top(fusion_layers=10**6), "fusion_layers is 1,000,000"),
        ("config.json", top(fusion_heads=10**9), "fusion_heads"),
        ("config.json", top(num_visual_tokens=10**9), "num_visual_tokens"),
        ("config.json", top(scales=10**3), "scales is 1,000"),
        ("config.json", top(begin_tokens=-1), "begin_tokens is -1"),
        ("config.json", top(lora={**LORA, "r": 10**8}), "r is 100,000,000"),
        ("config.json", top(lora={**LORA, "target_modules": "(a+)+b"}), "as a list of names"),
        ("config.json", top(lora={**LORA, "init_lora_weights": "them"}), "expected only"),
        ("config.json", top(vision=7), "no vision tower"),
        ("config.json", vision(image_size=10**6), "image_size is 1,000,000"),
        ("config.json", vision(image_size=-64), "image_size is -64"),
        ("config.json", vision(name="hf-hub:them/theirs", library="open_clip"), "no vision tower"),
        ("processor_config.json", top(image_size=-5), "image size is -5"),
        ("processor_config.json", top(image_size=10**6), "image size is 1000000"),
        ("processor_config.json", top(image_std=[0, 0, 0]), "deviations above 0"),
        ("processor_config.json", top(prompt="{question:>300000000}"), "no other braces"),
        ("processor_config.json", top(prompt="{question.__class__}"), "no other braces"),
        ("processor_config.json", top(prompt="{question}" * 10_000), "at most 10,000"),
        ("processor_config.json", top(max_question_tokens=10**9), "question tokens"),
        ("processor_config.json", top(prompt_date="{{ 7 }}"), "Expected YYYY-MM-DD"),
        ("processor_config.json", top(audio_tokenizer={}), "audio tokenizer"),
        (
            "generation_config.json",
            top(num_beams=10**6),
            "num_beams is 1,000,000, expected 0 to 64",
        ),
    ],
)
def test_absurd_settings_are_refused(folder: Path, name: str, change: Edit, message: str) -> None:
    edit(folder / name, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_a_library_prints_nothing_of_its_own_about_a_file(
    capfd: pytest.CaptureFixture[str],
) -> None:
    log = transformers_logging.get_logger("transformers.loading")
    before = transformers_logging.get_verbosity()

    @loading("it cannot be loaded", "")
    def load_it() -> None:
        log.error("\033[31ma report\033[0m")
        raise ValueError("bad")

    with pytest.raises(CheckpointError, match=r"cannot be loaded \(bad\)"):
        load_it()
    assert capfd.readouterr().err == ""
    assert transformers_logging.get_verbosity() == before


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "processor_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "generation_config.json",
    ],
)
@pytest.mark.parametrize("content", [DEEP, "[" * 900 + "]" * 900, "[]", "\ud800", "{"])
def test_files_that_are_no_configuration_end_in_one_line(
    folder: Path, name: str, content: str
) -> None:
    (folder / name).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_brackets_in_a_calibration_end_in_one_line(folder: Path) -> None:
    (folder / "calibration.json").write_text(DEEP)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_calibration(folder, "x")


@pytest.mark.parametrize(
    "named",
    ["model.safetensors.index.json", "../theirs/model.safetensors", "absent.safetensors", 7],
)
def test_an_index_names_weights_beside_it_only(folder: Path, named: Any) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"beta": named}}))
    for read in (lambda: load(folder), lambda: read_tensors(folder), lambda: read_tensors(index)):
        with pytest.raises(CheckpointError, match="not a file of weights beside it"):
            read()
    index.write_text(DEEP)
    with pytest.raises(CheckpointError, match="not an index of shards"):
        load(folder)


def test_a_normalizer_that_multiplies_is_refused(folder: Path) -> None:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 30}
    both = {"type": "Sequence", "normalizers": [step, step]}
    edit(folder / "tokenizer.json", lambda content: content.update(normalizer=both))
    with pytest.raises(CheckpointError, match="900 times longer"):
        load(folder)


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+(?!\S)|\s+"
)
DIGITS = r"\d{1,3}(?=(?:\d{3})*(?!\d))"


@pytest.mark.parametrize(
    "pattern", [GPT2, LLAMA3, O200K, DIGITS, r"[(+*)]+\(+|\++", "(?>a+b)c", ""]
)
def test_patterns_of_honest_tokenizers_are_accepted(pattern: str) -> None:
    assert not explodes(pattern)


@pytest.mark.parametrize(
    "pattern", ["(x+x+)+y", "(?:a|a)*b", "((a*)b?)*c", "(a{2,}){3,}", r"(\w+\s?)*$", "(.*,){9,}P"]
)
def test_patterns_that_explode_are_refused(folder: Path, pattern: str) -> None:
    split = {"type": "Split", "behavior": "Isolated", "invert": False}
    split["pattern"] = {"Regex": pattern}
    edit(folder / "tokenizer.json", lambda content: content.update(pre_tokenizer=split))
    with pytest.raises(CheckpointError, match="takes forever"):
        load(folder)


def test_a_panic_of_the_tokenizer_is_an_error_like_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biod2c_core.model.checkpoints.limits.explodes", lambda _: False)
    pattern = {"Regex": "(x+x+)+y"}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    edit(folder / "tokenizer.json", lambda content: content.update(pre_tokenizer=split))
    processor = load(folder)
    with pytest.raises(CheckpointError, match="the tokenizer fails on 'Question: xxx"):
        processor(None, ["x" * 40])


@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id", "suppress_token_ids"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1e30, "expected a whole number"),
        ([3, 1e19], "expected a whole number"),
        (10**19, "beyond all bounds"),
        ([3, 10**19], "beyond all bounds"),
        (-2, "-2, expected -1 to"),
        (10**7, "10,000,000"),
        (True, "expected a whole number"),
        ({"x": 1}, "expected a whole number"),
        ([[1]], "expected a whole number"),
        ("yes", "expected a whole number"),
    ],
)
def test_a_token_that_no_vocabulary_has_is_refused(
    name: str, value: Any, message: str, folder: Path
) -> None:
    edit(folder / "generation_config.json", top(**{name: value}))
    with pytest.raises(CheckpointError, match=rf"generation_config.json: {name} is .*{message}"):
        load(folder)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json"])
def test_half_a_character_is_refused_before_it_must_be_written(name: str, folder: Path) -> None:
    edit(folder / name, top(note="x\ud800"))
    with pytest.raises(CheckpointError, match=f"{name} holds half a character"):
        load(folder)


def test_an_honest_size_of_other_kinds_of_models_is_accepted() -> None:
    for config in (
        {"n_positions": 1024, "sliding_window": -1, "pad_token_id": -1, "rope_theta": 1e7},
        {"eos_token_id": [128001, 128009], "image_token_index": 32000, "depth_multiplier": 1.4},
        {"time_step_limit": [0.0, float("inf")], "max_position_embeddings": 10_485_760},
        {"num_nextn_predict_layers": 0, "mlp_only_layers": [0, 1], "num_local_experts": 256},
        {"hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126},
    ):
        check_sizes(config, "config.json")


def test_a_prompt_is_a_text_and_not_a_format(folder: Path) -> None:
    edit(folder / "processor_config.json", top(prompt="Q: {question} A:"))
    processor = load(folder)
    ids = processor.tokenizer("Q: {0.__class__} {question} A:").input_ids
    assert processor.prompt_ids("{0.__class__} {question}") == ids
    with pytest.raises(ConfigError, match="no other braces"):
        BioD2CProcessor(tiny_models.make_tokenizer(), prompt="{{{question}}}")


GENERATION = "{% generation %}{% set x = 1 %}{{ messages[0].content }}{% endgeneration %}{{ x }}"
SPECIAL = (
    "{{ bos_token }}{{ messages | tojson }}{{ tools }}{% for m in messages %}\n  {{ loop.index }}\n"
)
NAMESPACE = (
    "{% set n = namespace(a=1, b=dict(c=2)) %}{% set n.a = 3 %}{{ n.a }}{{ n.b.c }}{{ pad }}"
)


@pytest.mark.parametrize("template", [TEMPLATE, GENERATION, SPECIAL + "{% endfor %}", NAMESPACE])
@pytest.mark.parametrize("options", [{}, {"add_generation_prompt": True}])
def test_templates_render_as_in_transformers(template: str, options: dict[str, Any]) -> None:
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = template
    turns = [{"role": "user", "content": "größer <b>?\n"}, {"role": "assistant", "content": "yes"}]
    theirs = tokenizer.apply_chat_template(turns, tokenize=False, **options)
    assert apply_chat_template(tokenizer, turns, **options) == theirs


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "over 1 s",
        ),
        ("{{ 'a' * 3000000000 }}", "too much memory"),
        ("{{ 'a'.ljust(3000000000) }}", "too much memory"),
        ("{% for a in range(9999) %}{{ 'a' * 9999 }}{% endfor %}", "more than 200,000 characters"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ raise_exception('no') }}", "TemplateError: no"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    ],
)
def test_templates_are_bounded(
    template: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "LONGEST_TIME", 1.0 if "over" in message else 60.0)
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(BioD2CError, match=message):
        apply_chat_template(tokenizer, [{"role": "user", "content": "?"}])
    monkeypatch.undo()
    tokenizer.chat_template = "{{ messages[0].content }}"  # the next one is served
    assert apply_chat_template(tokenizer, [{"role": "user", "content": "?"}]) == "?"


def test_a_folder_is_looked_at_once_while_it_stays_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counting(path: Path, most_bytes: int) -> Any:
        read.append(path.name)
        return read_json(path, most_bytes)

    monkeypatch.setattr(limits, "read_json", counting)
    monkeypatch.setattr(limits, "_SETTLED", -1.0)
    limits.check_folder(folder)
    assert "tokenizer.json" in read
    read.clear()
    limits.check_folder(folder)
    assert read == []
    edit(folder / "config.json", lambda content: content.update(vocab_size=10**9, new=1))
    with pytest.raises(CheckpointError, match="vocab_size is 1,000,000,000"):
        limits.check_folder(folder)


def test_what_a_generation_config_asks_to_keep_is_not_kept(folder: Path) -> None:
    asked = {"output_attentions": True, "return_dict_in_generate": True}
    edit(folder / "generation_config.json", lambda config: config.update(asked))
    answerer = Answerer.load(str(folder))
    assert len(answerer.answer([Image.new("RGB", (40, 40))], ["What is this?"])) == 1


def test_weights_that_are_no_numbers_give_no_answer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["fusion.queries"] = weights["fusion.queries"] * float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    answerer = Answerer.load(str(folder))
    with pytest.raises(CheckpointError, match="no number"):
        answerer.answer([Image.new("RGB", (40, 40))], ["What is this?"])


def test_a_checkpoint_that_names_no_end_token_answers(folder: Path) -> None:
    edit(folder / "generation_config.json", lambda config: config.pop("eos_token_id"))
    answerer = Answerer.load(str(folder))
    assert len(answerer.answer([Image.new("RGB", (40, 40))], ["What is this?"])) == 1


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "calibration.json", "any.bin"])
@pytest.mark.parametrize("target", ["", "/dev/zero"])
def test_a_pipe_or_a_device_in_a_checkpoint_is_refused(
    folder: Path, name: str, target: str
) -> None:
    """Reading one never ends."""
    (folder / name).unlink(missing_ok=True)
    if target:
        (folder / name).symlink_to(target)
    else:
        os.mkfifo(folder / name)
    with pytest.raises(BioD2CError, match=r"pipe or a device|has no "):
        load(folder)
