import io
import json
import shutil
import time

import pytest

pytest.importorskip("streamlit", reason="the extra [dashboard] is not installed")

import pyarrow
from streamlit.testing.v1 import AppTest

from bitnet.artifacts import save_packed
from bitnet.checkpoint import work_folder
from bitnet.compressed_model import CompressedModel
from bitnet.config import Phase4Config
from bitnet.dashboard import audit_pages, jobs, server
from bitnet.dashboard.app import PAGES
from bitnet.dashboard.rendering import every_page, open_app, shown
from bitnet.dashboard.runs import speed_file
from bitnet.engines import open_engine
from bitnet.progress_file import ProgressFile
from tests.bitnet.dashboard import made_up
from tests.bitnet.dashboard.made_up import LAYERS, benchmark, scorecard, write_reports, write_run
from tests.bitnet.made_up_result import RECOVERY, VERIFIED, layer
from tests.bitnet.small_models import small_model, small_tokenizer


@pytest.fixture
def reports(tmp_path):
    return write_reports(tmp_path / "reports")


@pytest.fixture
def out(tmp_path):
    return write_run(tmp_path / "runs" / "out")


def page(reports, out, name):
    app = open_app(reports, [out], page=name)
    assert not app.exception, app.exception[0].message
    return app, shown(app)


def press(app, label):
    next(button for button in app.button if button.label == label).click()
    app.run()
    assert not app.exception, app.exception[0].message
    return shown(app)


def write_progress(out, **more):
    ProgressFile(out, f"bitnet compress tiny --out {out}").tell(7, (), "recover", (10, 40))
    path = work_folder(out) / "progress.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


# --------------------------------------------------------------------------- nothing there


def test_a_page_without_artefacts_says_what_is_missing(tmp_path):
    app = open_app(tmp_path / "no reports", [tmp_path / "no runs"])
    for name in PAGES:
        app.sidebar.radio(key="page").set_value(name).run()
        assert not app.exception, app.exception[0].message
        told = "There is no scorecard" if name in ("Scorecard", "Then and now", "History") else "There is no run"
        assert (told in shown(app)) is (name != "Compress a model"), name


def test_what_is_seen_first_is_what_there_is(tmp_path, reports, out):
    assert open_app(reports, [out]).main.title[0].value == "Scorecard"
    assert open_app(tmp_path / "none", [out]).main.title[0].value == "Run"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Scorecard", "reports/latest/scorecard.json"),
        ("Run", "runs/out/result.json"),
        ("Outputs and handoff", "runs/out/manifest.json"),
        ("Layers", "runs/out/packed/model.safetensors"),
        ("Speed", "runs/out-speed.json"),
    ],
)
def test_a_damaged_artefact_is_named_and_no_page_breaks(tmp_path, reports, out, name, file):
    app = open_app(reports, [out], page=name)
    for content in ("", "{}", '{"files": 3}'):
        (tmp_path / file).write_text(content)
        app.run()
        assert not app.exception, app.exception[0].message
        assert any(file.rpartition("/")[2] in warning.value.replace("\\", "") for warning in app.warning), content


# --------------------------------------------------------------------------- the audit


def test_the_scorecard_shows_scores_rows_and_the_evidence_of_one(reports, out):
    app, text = page(reports, out, "Scorecard")
    assert [(each.label, each.value) for each in app.metric] == [
        ("Overall", "61.7 %"),
        ("✔ GREEN", "2"),
        ("◐ YELLOW", "1"),
        ("✘ RED", "1"),
        ("○ GREY", "1"),
    ]
    assert "✘ RED\t1.speed\tTitle of 1.speed\t✔ GREEN\tspeedup 1.234 x (>= 2)" in text
    assert "share NaN (>= 2)" in text
    assert app.selectbox(key="row").value == "1.speed"  # what is RED comes first
    assert "1.1 to 1.9" in text
    assert "bitnet-audit run --only 1.speed" in text
    app.selectbox(key="row").set_value("1.quality").run()
    text = shown(app)
    assert "zeros = 0.3172 (95 % interval 0.3 to 0.33)" in text
    assert "python -m pytest s.py" in text
    assert "some processor" in text


def test_the_address_names_the_row(reports, out):
    assert "Read as: Read like this." in shown(open_app(reports, [out], page="Scorecard", row="2.new"))


def test_only_the_statuses_that_are_asked_for_are_listed(reports, out):
    app, _ = page(reports, out, "Scorecard")
    app.get_by_key("statuses").set_value(["GREY"]).run()
    assert [row["row"] for _, row in app.dataframe[0].value.iterrows()] == ["2.gone"]


def test_texts_of_artefacts_are_neither_markdown_nor_html(reports, out):
    for name, told in (("Scorecard", "![image]("), ("Outputs and handoff", "[file](")):
        app, text = page(reports, out, name)
        if name == "Scorecard":
            app.selectbox(key="row").set_value("1.quality").run()
            text = shown(app)
        assert told in text
        for kind in ("markdown", "caption", "error", "warning", "success", "info"):
            assert not any(told in element.value for element in app.get(kind))
        assert not any(getattr(element, "allow_html", False) for element in app.get("markdown"))


def test_an_incomplete_audit_says_so(tmp_path, out):
    told = scorecard(complete=False, problems=["the run was killed"])
    (tmp_path / "scorecard.json").write_text(json.dumps(told))
    assert "This audit is not complete: the run was killed" in page(tmp_path, out, "Scorecard")[1]


def test_a_scorecard_that_changed_is_read_again(reports, out):
    app, _ = page(reports, out, "Scorecard")
    (reports / "latest" / "scorecard.json").write_text(json.dumps(scorecard(0.7249)))
    app.run()
    assert app.metric[0].value == "72.5 %"


def test_then_and_now_counts_what_moved_and_lists_it(reports, out):
    app, _ = page(reports, out, "Then and now")
    assert [each.value for each in app.metric] == ["1"] * 5
    app.get_by_key("movements").set_value(["worse"]).run()
    (line,) = app.dataframe[0].value.to_dict("records")
    assert (line["row"], line["then"], line["now"]) == ("1.speed", "✔ GREEN", "✘ RED")


def test_the_history_lists_audits_of_one_kind_and_names_what_it_cannot_read(reports, out):
    (reports / "history" / "damaged.json").write_text("{")
    (reports / "history" / "full.json").write_text(json.dumps(scorecard(0.9, profile="full", started="2026-01-01")))
    app, text = page(reports, out, "History")
    assert list(app.dataframe[0].value["overall"]) == ["61.7 %", "40.0 %"]
    assert "damaged.json is not valid JSON" in text
    app.selectbox(key="audits").set_value("subject, full profile, tiny").run()
    assert list(app.dataframe[0].value["overall"]) == ["90.0 %"]
    assert "a line needs two" in shown(app)


# --------------------------------------------------------------------------- a run


def test_a_run_shows_quality_sizes_gates_and_what_was_done_otherwise(reports, out):
    app, text = page(reports, out, "Run")
    assert [each.value for each in app.metric] == ["23.75", "30.0 %", "8.00x", "34.6 %"]
    assert "✘ Not a success: the gate perplexity_increase was missed; a fresh process did not reproduce" in text
    assert "recovered\t23.75\t22.84 to 24.7\t30.0 %" in text
    assert "✘ MISSED\tperplexity_increase\t0.1875\t<= 0.1" in text
    assert "✔ passed\taccuracy_drop\tnot measured" in text
    assert "7 training steps, of which 5 were kept." in text
    assert "as configured\t23.75\t30.0 %\t2 with 2" in text
    assert "load and validate\t1 min 15 s\t400 MB" in text
    assert "packed\t300 MB\t8.00x" in text


def test_a_run_that_needed_no_recovery_and_succeeded(tmp_path, reports):
    more = {"recovered": None, "recovery": RECOVERY, "success": True, "attempts": [], "fallbacks": []}
    out = write_run(tmp_path / "out", **more, verification=VERIFIED)
    text = page(reports, out, "Run")[1]
    assert "Success: every gate was passed" in text
    assert "Not needed: perplexity rose by no more than 5.0 %." in text
    assert "A fresh process reloaded both models" in page(reports, out, "Outputs and handoff")[1]


def test_layers_show_error_zeros_planes_and_the_scales_of_one(reports, out):
    app, text = page(reports, out, "Layers")
    assert f"{LAYERS[1]}\t1.125\t0.375\t2\t4 x 8" in text
    assert "Plane 2" in text
    assert len(app.get("vega_lite_chart")) == 4
    assert app.selectbox(key="layer").options == list(LAYERS)


def test_layers_of_an_older_version_have_no_error(tmp_path, reports):
    out = write_run(tmp_path / "out", layers=[layer(LAYERS[0])])
    assert "Not measured: the run is of an older version." in page(reports, out, "Layers")[1]


def test_speed_has_intervals_and_tells_how_it_is_measured(reports, out):
    assert f"bitnet bench {out} --json" in page(reports, out, "Speed")[1]
    speed_file(out).write_text(json.dumps(benchmark()))
    app, text = page(reports, out, "Speed")
    assert "fp32\t100\t1000\t250.0 ms\t7 MB\twhat fp32 is" in text
    assert "the machine was too busy" in text
    assert "control" not in text
    assert "✘ RED\t1.speed\tspeedup\t1.234 x\t1.1 to 1.9\t>= 2" in text
    assert '"low": 3.0' in json.dumps(chart_rows(app))


def chart_rows(app):
    (chart,) = app.get("vega_lite_chart")
    return [pyarrow.ipc.open_stream(io.BytesIO(each.data.data)).read_all().to_pylist() for each in chart.proto.datasets]


def test_outputs_show_how_both_models_agree_and_digests_are_checked_anew(reports, out):
    app, text = page(reports, out, "Outputs and handoff")
    assert [each.value for each in app.metric] == ["all but 1", "98.0 %", "0"]
    assert "Run feedbeef, 3 files, primary: fp16" in text
    text = press(app, "Check the digests now")
    assert "✘ 2 of 3 files are not those of the manifest." in text
    for line in ("✔ as listed\tpacked/config.json", "✘ missing\tpacked/gone.json", "✘ ALTERED\tpacked/model.safeten"):
        assert line in text


def test_the_run_is_chosen_by_name(tmp_path, reports, out):
    write_run(out.parent / "another", source="another model")
    app, text = page(reports, out, "Run")
    assert "no-such-model (llama" in text
    app.sidebar.selectbox(key="run").set_value(str(out.parent / "another")).run()
    assert "another model (llama" in shown(app)


# --------------------------------------------------------------------------- work


def test_a_run_that_is_under_way_shows_stage_step_and_log(tmp_path, reports):
    out = tmp_path / "runs" / "out"
    write_progress(out)
    (work_folder(out) / "recovery" / "key").mkdir(parents=True)
    (work_folder(out) / "recovery" / "key" / "state.json").write_text(json.dumps({"figures": {"steps": 8}}))
    app, text = page(reports, out, "Live progress")
    assert "out: ▶ running" in text
    assert "▶ recover\t25 % done" in text
    assert "after step 8" in text
    assert any(
        "Stage 1 of 7: recover, step 10 of 40" in each.proto.text.replace("\\", "") for each in app.get("progress")
    )
    assert not app.button  # it was not started here, so it is not stopped here
    for name in ("Run", "Layers", "Outputs and handoff", "Try it"):
        app.sidebar.radio(key="page").set_value(name).run()
        assert "out has no result.json (▶ running): the page 'Live progress'" in shown(app), name


def test_a_dashboard_that_was_ended_finds_the_run_again_where_it_is(tmp_path, reports):
    """All that a page knows is on disk: another program shows the same."""
    out = tmp_path / "runs" / "out"
    write_progress(out)
    before = page(reports, out, "Live progress")[1]
    assert page(reports, out, "Live progress")[1] == before
    write_progress(out, step=30)
    assert "75 % done" in page(reports, out, "Live progress")[1]


def test_an_interrupted_run_is_continued_by_its_own_command(tmp_path, reports, monkeypatch):
    out = tmp_path / "runs" / "out"
    write_progress(out, process=None)
    asked = []
    monkeypatch.setattr(jobs, "start", lambda *arguments: asked.append(arguments))
    app, text = page(reports, out, "Live progress")
    assert "out: ⏸ interrupted" in text
    press(app, "Continue")
    assert asked == [(out, ("compress", "tiny", "--out", str(out)))]


@pytest.mark.parametrize("command", ["rm -r /", "bitnet eval x", "bitnet compress tiny --out elsewhere"])
def test_another_command_is_not_continued(tmp_path, reports, command):
    out = tmp_path / "runs" / "out"
    write_progress(out, process=None, command=command)
    assert not page(reports, out, "Live progress")[0].button


def test_a_job_is_stopped_and_continued_from_here(tmp_path, reports, monkeypatch):
    out = tmp_path / "runs" / "out"
    folder = jobs.job_folder(out)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"words": ["compress", "tiny"], "started": time.time()}))
    (folder / "log.txt").write_text("0.0 s  1/7 load and validate")
    asked = []
    monkeypatch.setattr(jobs, "stop", asked.append)
    monkeypatch.setattr(jobs, "start", lambda *arguments: asked.append(arguments))
    app, text = page(reports, out, "Live progress")
    assert "out: ◌ starting" in text
    assert "1/7 load and validate" in text
    press(app, "Stop it")
    (folder / "exit_code").write_text("2\n")
    app, text = page(reports, out, "Live progress")
    assert "out: ✘ failed" in text
    press(app, "Continue")
    assert (asked[0].words, asked[1]) == (("compress", "tiny"), (out, ("compress", "tiny")))


def test_a_compression_is_started_with_what_the_form_says(tmp_path, reports, monkeypatch):
    asked = []
    monkeypatch.setattr(jobs, "start", lambda *arguments: asked.append(arguments))
    app, _ = page(reports, tmp_path, "Compress a model")
    app.text_input(key="name").set_value("new")
    app.get_by_key("planes").set_value("2")
    app.text_area(key="settings").set_value("codec=base3\n\n seed=3 \n")
    text = press(app, "Start")
    out = tmp_path / "new"
    settings = ["--set=planes=2", "--set=bits_budget=null", "--set=codec=base3", "--set=seed=3"]
    assert asked == [(out, ["compress", "tiny", "--out", str(out), *settings])]
    assert f"Started. It fills {out}" in text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "../elsewhere"}, "is no name of a folder"),
        ({"name": ""}, "is no name of a folder"),
        ({"settings": "codec=base4"}, "codec"),
        ({"settings": "nonsense"}, "nonsense"),
        ({"name": "out"}, "already exists"),
        ({"name": "busy"}, "already"),
    ],
)
def test_what_cannot_be_started_is_told_in_a_sentence(tmp_path, reports, monkeypatch, changes, told):
    monkeypatch.setattr(jobs, "start", lambda *arguments: pytest.fail("it was started"))
    write_run(tmp_path / "out")
    write_progress(tmp_path / "busy")
    app, _ = page(reports, tmp_path, "Compress a model")
    for key, value in {"name": "new", **changes}.items():
        app.get_by_key(key).set_value(value)
    assert told in press(app, "Start")


def test_a_prompt_is_continued_by_both_models(tmp_path, reports, model_folder):
    out = write_run(tmp_path / "out", source=str(model_folder))
    shutil.rmtree(out / "packed")
    (out / "packed").mkdir()
    compressed = CompressedModel.from_model(small_model("llama"), Phase4Config().resolved(1000)).packed()
    save_packed(compressed, small_tokenizer(), out / "packed")
    app, _ = page(reports, out, "Try it")
    app.text_area(key="prompt").set_value("the cat sat")
    app.number_input(key="count").set_value(4)
    text = press(app, "Continue the prompt")
    for source in (out / "packed", model_folder):
        engine = open_engine(str(source))
        tokens = engine.encode("the cat sat")
        assert "the cat sat" + "".join(engine.text(tokens, engine.tokens(tokens, 4))) in text
        assert f"{engine.name}: 4 tokens" in text


def test_a_model_that_is_gone_is_told(reports, out):
    app, _ = page(reports, out, "Try it")
    text = press(app, "Continue the prompt")
    assert len(app.warning) == 2
    assert "no-such-model" in text


def test_the_script_takes_its_folders_from_the_command_line(reports, out, monkeypatch):
    words = server.words(reports, [out], 8501)
    monkeypatch.setattr("sys.argv", [words[4], *words[words.index("--") + 1 :]])
    script = AppTest.from_file(words[4], default_timeout=60).run()
    assert not script.exception
    assert script.metric[0].value == "61.7 %"
    script.sidebar.radio(key="page").set_value("Run").run()
    assert script.metric[0].value == "23.75"


def test_statuses_that_no_row_has_list_none(tmp_path, out):
    told = scorecard(criteria=[made_up.row("1.only", "GREEN", "GREEN")])
    (tmp_path / "scorecard.json").write_text(json.dumps(told))
    app, _ = page(tmp_path, out, "Scorecard")
    app.get_by_key("statuses").set_value(["RED"]).run()
    assert "No criterion has this status." in shown(app)


def test_a_page_that_breaks_is_not_passed_over_by_the_audit(reports, out, monkeypatch):
    def breaks(places):
        raise KeyError("a mistake")

    monkeypatch.setattr(audit_pages, "changes", breaks)
    with pytest.raises(RuntimeError, match=r"'Then and now' breaks: .*a mistake"):
        every_page(reports, [out])
