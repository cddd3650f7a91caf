"""The summary of a run, and what a terminal shows."""

from experiments.sparse_robust_networks import summary, tables


def test_summary_holds_tables_figures_and_scale(training, reference_path, tmp_path):
    output = tmp_path / "run" / "summary.md"
    figure = tmp_path / "run" / "figures" / "mnist_overview.png"
    summary.write_summary(training.write(), reference_path, output, [figure], "300 iterations.")
    text = output.read_text(encoding="utf-8")
    assert "\n\n300 iterations.\n\n" in text
    assert "## MNIST\n" in text
    assert "Fashion" not in text
    assert "![mnist overview](figures/mnist_overview.png)" in text
    assert "Not evaluated at iteration 30,000; the last evaluated iteration is 300." in text
    frame, reference = training.frame(), tables.load_reference(reference_path)
    for table in (
        tables.accuracy_table(frame, reference, "mnist", at="end"),
        tables.accuracy_table(frame, reference, "mnist", at="early_stopping"),
        tables.strategy_table(frame, "mnist"),
        tables.cross_attack_table(frame, "mnist"),
    ):
        assert f"\n\n{table}\n\n" in text


def test_summary_of_an_empty_run(maker, reference_path, tmp_path):
    output = tmp_path / "summary.md"
    summary.write_summary(maker.write(), reference_path, output, [], "Nothing is done yet.")
    assert "Nothing is done yet." in output.read_text(encoding="utf-8")


def test_terminal_table(training, reference):
    text = summary.terminal_table(training.frame(), reference)
    assert text.startswith("MNIST, original\n")
    assert "|   P_m (%) |    SA adv. |      paper |    RA adv. |      paper |" in text
    assert "81.00±1.41" in text and "45.32±0.20" in text
    assert "|   P_m (%) |   original |     random |" in text
    assert max(map(len, text.splitlines())) <= 120


def test_terminal_table_without_original(maker, reference):
    maker.add("test/pgd/accuracy", [0.5], method="random")
    text = summary.terminal_table(maker.frame(), reference)
    assert text.startswith("MNIST, random\n") and "50.00" in text


def test_terminal_table_of_an_empty_run(maker, reference):
    assert summary.terminal_table(maker.frame(), reference) == "No results yet."
