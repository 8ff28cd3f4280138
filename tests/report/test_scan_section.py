"""A scan becomes tables: verdict first, signals beside their thresholds, what was not measured."""

from refusalscope.report.scan_section import scan_section
from refusalscope.results.records import Rate
from refusalscope.results.scan_records import LayerScan, ScanRecord, ScanSignals, Threshold

RECORD = ScanRecord(
    checkpoint="edited",
    verdict="edited along one direction",
    detail="all layers cannot write along one direction",
    signals=ScanSignals(joint=0.001, whole=0.002, site=0.01, layer=0.02, third_layer=None, top=0.9),
    n_directions=1,
    dose=0.97,
    dose_range=(0.94, 0.99),
    layers_reached=(0, 1),
    site=None,
    embedding_reached=True,
    agreement=0.99,
    rounding=1e-6,
    layers=(
        LayerScan(
            layer=None, gap=None, n_directions=None, dose=None, is_flagged=False, leftover=0.001
        ),
        LayerScan(layer=0, gap=0.02, n_directions=1, dose=0.9, is_flagged=True, leftover=None),
    ),
    damage=("model-2.safetensors is missing",),
    notes=(),
    panel="thirty organisms",
    n_panel=30,
    thresholds={
        "joint": Threshold(suspicious=0.4, edited=0.2),
        "top": Threshold(suspicious=0.3, edited=None),
    },
    false_positives=Rate(rate=0.0, n=15, low=0.0, high=0.204),
    base=None,
)


def test_the_section_shows_the_verdict_the_dose_and_how_often_it_is_wrong() -> None:
    facts = {row[0]: row[1] for row in scan_section(RECORD).tables[0].rows}
    assert facts["verdict"] == "edited along one direction"
    assert facts["estimated dose"] == "0.97\n0.94 to 0.99"
    assert facts["damage"] == "model-2.safetensors is missing"
    assert facts["clean checkpoints called anything"] == "0 % (n = 15, 95 % CI 0–20.4 %)"  # noqa: RUF001 - an en dash
    assert "never means" in scan_section(RECORD).tables[0].caption


def test_signals_stand_beside_their_thresholds_and_layers_below_them() -> None:
    _, signals, layers = scan_section(RECORD).tables
    assert ("all layers, lower end", "0.001", "0.400", "0.200") in signals.rows
    assert ("all layers, upper end", "0.900", "0.300", "none") in signals.rows
    assert layers.rows == (
        ("embedding", "not measured", "no", "1.0e-03"),
        ("0", "0.020", "yes", "not measured"),
    )


def test_what_cannot_be_said_is_a_section_too() -> None:
    nothing = RECORD.model_copy(
        update={"verdict": "cannot say", "signals": None, "layers": (), "dose": None}
    )
    (table,) = scan_section(nothing).tables
    assert "estimated dose" not in [row[0] for row in table.rows]
